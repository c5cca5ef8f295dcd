/** A server over a fake engine and a log in memory, with a lineage that corrections were committed to. */
import { pino } from 'pino';
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import { createServing, DEFAULT_SERVING_LIMITS, type ServingDependencies, type ServingLimits } from '../../serving/server.ts';
import type { Engine } from '../../model/engine.ts';
import { Versions } from '../../versions/versions.ts';
import { correction, LINEAGE, runBatch } from '../activities/corrections.ts';
import { FakeEngine } from '../fake-engine.ts';
import { MemoryStore } from '../versions/memory-store.ts';

/** Polls so seldom that a test sees only what it notified. */
const NEVER_MS = 3_600_000;

export async function servedLineage(more: Partial<ServingDependencies> & { limits?: Partial<ServingLimits>; store?: MemoryStore; serve?: (engine: FakeEngine) => Engine } = {}) {
  const store = more.store ?? new MemoryStore();
  const versions = new Versions(store);
  const editor = new FakeEngine();
  const activities = { ...createEditActivities({ engine: editor, versions }), ...createLedgerActivities({ versions }) };
  const served = new FakeEngine();
  const serving = createServing(
    { engine: more.serve?.(served) ?? served, versions: more.versions ?? new Versions(store), logger: pino({ level: 'silent' }), lineages: more.lineages ?? [LINEAGE], ...(more.submit === undefined ? {} : { submit: more.submit }) },
    { ...DEFAULT_SERVING_LIMITS, pollEveryMs: NEVER_MS, ...more.limits },
  );
  let batches = 0;
  return {
    ...serving,
    store,
    engine: served,
    /** Commits a version with these corrections. */
    async commit(...revisions: ReturnType<typeof correction>[]): Promise<void> {
      batches += 1;
      await (await runBatch(activities, `batch-${batches}`, revisions)).commit();
    },
    // Awaited here, since an injected request only begins when somebody waits for it.
    post: async (url: string, body: object) => await serving.server.inject({ method: 'POST', url, payload: body }),
    get: async (url: string) => await serving.server.inject({ method: 'GET', url }),
  };
}
