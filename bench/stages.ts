/** An engine that tells how long each stage of an edit took, around one that does the work. */
import type { Engine } from '../model/engine/engine.ts';

/** Seconds by stage. */
export type StageSeconds = Record<
  'context' | 'targets' | 'keys' | 'solve' | 'hook' | 'probes' | 'commit',
  number
>;

export function noSeconds(): StageSeconds {
  return { context: 0, targets: 0, keys: 0, solve: 0, hook: 0, probes: 0, commit: 0 };
}

/** Runs the work and adds what it took to a stage. */
export async function timed<Result>(
  seconds: StageSeconds,
  stage: keyof StageSeconds,
  work: () => Promise<Result>,
): Promise<Result> {
  const began = performance.now();
  try {
    return await work();
  } finally {
    seconds[stage] += (performance.now() - began) / 1000;
  }
}

/** `seconds` grows with every call. */
export function timedEngine(engine: Engine, seconds: StageSeconds): Engine {
  return {
    queue: engine.queue,
    describe: () => engine.describe(),
    holds: (id) => engine.holds(id),
    holdHook: (id, pairs) => timed(seconds, 'hook', () => engine.holdHook(id, pairs)),
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
    probe: (id, probes) => timed(seconds, 'probes', () => engine.probe(id, probes)),
    canary: (id) => timed(seconds, 'probes', () => engine.canary(id)),
    generate: (id, prompt, options, onToken) => engine.generate(id, prompt, options, onToken),
    close: () => engine.close(),
  };
}
