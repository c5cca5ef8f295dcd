/** Wrappers of an engine: with other names for its hooks, or with a memory for answers. */
import type {
  CanaryReading,
  HookReport,
  PairSet,
  Probe,
  ProbeAnswer,
} from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { GateParameters } from '../../schemas/editing.ts';

/** An engine that takes a gate with each hook. */
export interface GatedEngine extends Engine {
  holdHook(hookId: string, pairs: PairSet, gate?: GateParameters): Promise<HookReport>;
}

/** Asks the base model each question once, since its answers never change. */
export function rememberingBase(engine: GatedEngine): GatedEngine {
  return remembering(engine, [null]);
}

/** Asks these hooks each question once. */
export function remembering(engine: GatedEngine, hookIds: readonly (string | null)[]): GatedEngine {
  const known = new Map<string, ProbeAnswer>();
  const readings = new Map<string | null, CanaryReading>();
  return {
    ...bound(engine),
    async probe(hookId, probes) {
      if (!hookIds.includes(hookId)) return engine.probe(hookId, probes);
      const missing = probes.filter((probe) => !known.has(keyOf(hookId, probe)));
      const answers = missing.length === 0 ? [] : await engine.probe(hookId, missing);
      missing.forEach((probe, i) => known.set(keyOf(hookId, probe), answers[i]!));
      return probes.map((probe) => known.get(keyOf(hookId, probe))!);
    },
    async canary(hookId) {
      if (!hookIds.includes(hookId)) return engine.canary(hookId);
      const reading = readings.get(hookId) ?? (await engine.canary(hookId));
      readings.set(hookId, reading);
      return reading;
    },
  };
}

/**
 * Prefixes the names of all hooks but those in `except`, and holds them behind `gate` if one is
 * given. Callers that name hooks by their pairs can then hold the same pairs behind several gates.
 */
export function renaming(
  engine: GatedEngine,
  prefix: string,
  except: readonly (string | null)[],
  gate?: GateParameters,
): GatedEngine {
  const named = (hookId: string) => (except.includes(hookId) ? hookId : `${prefix}:${hookId}`);
  const namedOrBase = (hookId: string | null) => (hookId === null ? null : named(hookId));
  return {
    ...bound(engine),
    holds: (hookId) => engine.holds(named(hookId)),
    holdHook(hookId, pairs, other) {
      const before = other ?? (except.includes(hookId) ? undefined : gate);
      return before === undefined
        ? engine.holdHook(named(hookId), pairs)
        : engine.holdHook(named(hookId), pairs, before);
    },
    computeTargets: (hookId, requests, progress) =>
      engine.computeTargets(namedOrBase(hookId), requests, progress),
    deriveUpdate: (hookId, requests, targets) =>
      engine.deriveUpdate(namedOrBase(hookId), requests, targets),
    probe: (hookId, probes) => engine.probe(namedOrBase(hookId), probes),
    canary: (hookId) => engine.canary(namedOrBase(hookId)),
    generate: (hookId, prompt, options, onToken) =>
      engine.generate(namedOrBase(hookId), prompt, options, onToken),
  };
}

function keyOf(hookId: string | null, probe: Probe): string {
  return JSON.stringify([
    hookId,
    probe.prompt,
    probe.target ?? null,
    probe.alternative ?? null,
    probe.greedyTokensMax,
  ]);
}

/** The engine's methods as functions, which a wrapper can replace one by one. */
export function bound(engine: GatedEngine): GatedEngine {
  return {
    queue: engine.queue,
    describe: () => engine.describe(),
    holds: (hookId) => engine.holds(hookId),
    holdHook: (hookId, pairs, gate) =>
      gate === undefined ? engine.holdHook(hookId, pairs) : engine.holdHook(hookId, pairs, gate),
    computeTargets: (hookId, requests, progress) =>
      engine.computeTargets(hookId, requests, progress),
    deriveUpdate: (hookId, requests, targets) => engine.deriveUpdate(hookId, requests, targets),
    probe: (hookId, probes) => engine.probe(hookId, probes),
    canary: (hookId) => engine.canary(hookId),
    generate: (hookId, prompt, options, onToken) =>
      engine.generate(hookId, prompt, options, onToken),
    close: () => engine.close(),
  };
}
