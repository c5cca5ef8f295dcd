/** Wrappers around an engine that time its calls, cache its answers or rename its hooks. */
import type {
  CanaryReading,
  HookReport,
  PairSet,
  Probe,
  ProbeAnswer,
} from '../model/engine-types.ts';
import type { Engine } from '../model/engine/engine.ts';
import { localSteps, type LocalSteps } from '../operations/local-batch.ts';
import type { GateParameters } from '../schemas/hyper-parameters.ts';
import type { Versions } from '../versions/versions.ts';

/** An engine that takes a gate with each hook. */
export interface GatedEngine extends Engine {
  holdHook(hookId: string, pairs: PairSet, gate?: GateParameters): Promise<HookReport>;
}

/** Replaces methods of an engine and forwards the others. */
export function replacing<Wrapped extends Engine>(
  engine: Wrapped,
  methods: Partial<Wrapped>,
): Wrapped {
  return new Proxy(engine, {
    get(target, name) {
      if (name in methods) return methods[name as keyof Wrapped];
      const own: unknown = Reflect.get(target, name, target);
      return typeof own === 'function' ? (own.bind(target) as unknown) : own;
    },
  });
}

export type StageSeconds = Record<
  'context' | 'targets' | 'keys' | 'solve' | 'hook' | 'probes' | 'commit',
  number
>;

export function noSeconds(): StageSeconds {
  return { context: 0, targets: 0, keys: 0, solve: 0, hook: 0, probes: 0, commit: 0 };
}

/** The steps of an edit batch; every call adds its time to `seconds`. */
export function timedSteps(engine: Engine, versions: Versions, seconds: StageSeconds): LocalSteps {
  const timed = async <Result>(stage: keyof StageSeconds, work: () => Promise<Result>) => {
    const began = performance.now();
    try {
      return await work();
    } finally {
      seconds[stage] += (performance.now() - began) / 1_000;
    }
  };
  const timedEngine = replacing(engine, {
    holdHook: (id, pairs) => timed('hook', () => engine.holdHook(id, pairs)),
    async computeTargets(id, requests, progress) {
      const found = await engine.computeTargets(id, requests, progress);
      seconds.context += found.seconds['context'] ?? 0;
      seconds.targets += found.seconds['targets'] ?? 0;
      return found;
    },
    async deriveUpdate(id, requests, targets) {
      const derived = await engine.deriveUpdate(id, requests, targets);
      seconds.keys += derived.seconds['keys'] ?? 0;
      seconds.solve += derived.seconds['solve'] ?? 0;
      return derived;
    },
    probe: (id, probes) => timed('probes', () => engine.probe(id, probes)),
    canary: (id) => timed('probes', () => engine.canary(id)),
  });
  const steps = localSteps(timedEngine, versions);
  return {
    ...steps,
    planBatch: (step) => timed('commit', () => steps.planBatch(step)),
    commitVersion: (step) => timed('commit', () => steps.commitVersion(step)),
  };
}

/** Caches answers of these hooks; null, the default, is the base model. */
export function remembering(
  engine: GatedEngine,
  hookIds: readonly (string | null)[] = [null],
): GatedEngine {
  const answers = new Map<string, ProbeAnswer>();
  const readings = new Map<string | null, CanaryReading>();
  return replacing(engine, {
    async probe(hookId, probes) {
      if (!hookIds.includes(hookId)) return engine.probe(hookId, probes);
      const keyOf = ({ prompt, target, alternative, greedyTokensMax }: Probe) =>
        JSON.stringify([hookId, prompt, target ?? null, alternative ?? null, greedyTokensMax]);
      const missing = probes.filter((probe) => !answers.has(keyOf(probe)));
      const found = missing.length === 0 ? [] : await engine.probe(hookId, missing);
      missing.forEach((probe, i) => answers.set(keyOf(probe), found[i]!));
      return probes.map((probe) => answers.get(keyOf(probe))!);
    },
    async canary(hookId) {
      if (!hookIds.includes(hookId)) return engine.canary(hookId);
      const reading = readings.get(hookId) ?? (await engine.canary(hookId));
      readings.set(hookId, reading);
      return reading;
    },
  });
}

/**
 * Prefixes the names of all hooks except `head`, and holds them behind `gate` if given. Callers
 * that name hooks by their pairs can then hold the same pairs behind several gates.
 */
export function renaming(
  engine: GatedEngine,
  prefix: string,
  head: string | null,
  gate?: GateParameters,
): GatedEngine {
  const named = <Id extends string | null>(id: Id) =>
    (id === null || id === head ? id : `${prefix}:${id}`) as Id;
  return replacing(engine, {
    holds: (id) => engine.holds(named(id)),
    holdHook: (id, pairs) => engine.holdHook(named(id), pairs, id === head ? undefined : gate),
    computeTargets: (id, requests, progress) =>
      engine.computeTargets(named(id), requests, progress),
    deriveUpdate: (id, requests, targets) => engine.deriveUpdate(named(id), requests, targets),
    probe: (id, probes) => engine.probe(named(id), probes),
    canary: (id) => engine.canary(named(id)),
    generate: (id, prompt, options, onToken) =>
      engine.generate(named(id), prompt, options, onToken),
  });
}
