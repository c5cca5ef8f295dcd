/** Answers that wait until they are let go, for tests that need requests behind one another. */
import type { Generation } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { FakeEngine } from '../harness/fake-engine.ts';
import { serveInTest } from './served-lineage.ts';

/** A served lineage whose answers wait until they are let go, by `gate`. */
export async function serveHeld(more: Parameters<typeof serveInTest>[0] = {}) {
  let gate!: ReturnType<typeof heldEngine>;
  const serve = (inner: FakeEngine) => (gate = heldEngine(inner)).engine;
  return { ...(await serveInTest({ ...more, serve })), gate };
}

function heldEngine(inner: FakeEngine) {
  const waiting: (() => void)[] = [];
  let running = 0;
  let mostRunning = 0;
  const engine = Object.create(inner, {
    holds: { value: inner.holds.bind(inner) },
    holdHook: { value: inner.holdHook.bind(inner) },
    generate: {
      value: async (...parameters: Parameters<Engine['generate']>): Promise<Generation> => {
        running += 1;
        mostRunning = Math.max(mostRunning, running);
        await new Promise<void>((resolve) => waiting.push(resolve));
        running -= 1;
        return inner.generate(...parameters);
      },
    },
  }) as Engine;
  return {
    engine,
    mostRunning: () => mostRunning,
    /** When an answer is being made. */
    busy: () => until(async () => waiting.length > 0),
    /** Lets the answer go that is being made, as soon as there is one. */
    async letGo() {
      await until(async () => waiting.length > 0);
      waiting.shift()!();
    },
  };
}

export async function until(holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + UNTIL_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error('what was waited for did not come');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Long enough for any machine; without it a test that failed would go on asking for good. */
const UNTIL_MS = 60_000;
