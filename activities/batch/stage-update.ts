/**
 * Turns targets into pairs and builds the hook with them. The pairs are a blob that no version
 * names yet, so nothing is visible until commit-version.
 */
import type { Targets } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import { revisionId } from '../../schemas/correction.ts';
import {
  removalsInForce,
  type BlobReference,
  type Refusal,
  type StagedUpdate,
  type TargetShard,
} from '../../schemas/editing.ts';
import { ensureHook, hookIdOf, readBlob } from '../../versions/log/hook-pairs.ts';
import { decodeTargets, encodePairs } from '../../versions/log/pairs.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { Versions } from '../../versions/versions.ts';
import { requestOf } from './compute-targets.ts';
import type { StageStep } from '../../schemas/steps.ts';
import { holdRows, openStep, remaining, stagedRows } from './step-rows.ts';

export async function stageUpdate(
  engine: Engine,
  versions: Versions,
  step: StageStep,
): Promise<StagedUpdate> {
  const began = performance.now();
  const { log, history, madeWith, heartbeat } = await openStep(engine, versions, step);

  const derived = await heartbeat.during({ stage: 'update' }, async () => {
    const refused: Refusal[] = [];
    let targets = await readTargets(log, step.shards, step.edits.map(revisionId));
    // A refusal restores the predecessor and so changes the starting hook, so the update is
    // repeated. Every turn has fewer corrections than the one before.
    for (;;) {
      if (targets.ids.length === 0)
        return { refused, rows: [] as string[], pairs: null as BlobReference | null };
      const base = remaining(history, removalsInForce(step.removals, targets.ids));
      const wanted = new Set(targets.ids);
      const requests = step.edits.map(requestOf).filter(({ id }) => wanted.has(id));
      const update = await engine.deriveUpdate(
        await ensureHook(engine, log, base),
        requests,
        targets,
      );
      if (update.ids.length !== update.pairs.count && update.ids.length > 0)
        throw new RangeError(
          `${update.pairs.count} rows of pairs for ${update.ids.length} corrections`,
        );
      refused.push(...update.refused);
      const next = remaining(history, removalsInForce(step.removals, update.ids));
      if (update.ids.length === 0 || hookIdOf(next) === hookIdOf(base)) {
        const pairs =
          update.ids.length === 0
            ? null
            : await log.blobs.stage(step.batchId, encodePairs(update.pairs));
        return { refused, rows: update.ids, pairs };
      }
      targets = without(targets, update.refused);
    }
  });

  const rows = stagedRows(history, step.removals, derived);
  const layers = await heartbeat.during({ stage: 'hook' }, () => holdRows(engine, log, rows));
  const written = new Set(derived.rows);
  const searches = step.shards.flatMap(({ accepted, search }) =>
    search !== undefined && accepted.some(({ id }) => written.has(id)) ? [search] : [],
  );
  return { ...derived, searches, layers, madeWith, seconds: (performance.now() - began) / 1_000 };
}

/** Reads these corrections' targets from the shards, in the order of the corrections. */
async function readTargets(
  log: VersionLog,
  shards: readonly TargetShard[],
  wanted: readonly string[],
): Promise<Targets> {
  const rows = new Map<string, Float32Array>();
  for (const { targets } of shards) {
    if (targets === null) continue;
    const { ids, values } = await readBlob(log, targets, decodeTargets);
    const width = values.length / ids.length;
    ids.forEach((id, row) => rows.set(id, values.subarray(row * width, (row + 1) * width)));
  }
  return joined(wanted.flatMap((id) => (rows.has(id) ? [{ id, row: rows.get(id)! }] : [])));
}

function without({ ids, values }: Targets, refused: readonly Refusal[]): Targets {
  const gone = new Set(refused.map(({ id }) => id));
  const width = values.length / ids.length;
  return joined(
    ids
      .map((id, i) => ({ id, row: values.subarray(i * width, (i + 1) * width) }))
      .filter(({ id }) => !gone.has(id)),
  );
}

function joined(rows: readonly { id: string; row: Float32Array }[]): Targets {
  const width = rows[0]?.row.length ?? 0;
  const values = new Float32Array(rows.length * width);
  rows.forEach(({ row }, i) => values.set(row, i * width));
  return { ids: rows.map(({ id }) => id), values };
}
