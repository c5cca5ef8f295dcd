/**
 * Turns targets into pairs and builds the hook with them. The pairs are a blob that no version names yet: nothing of it
 * can be seen until commit-version.
 */
import type { Engine, EngineDescription, Targets } from '../model/engine.ts';
import type { BlobReference, Provenance, Refusal, StagedUpdate, TargetShard } from '../schemas/editing.ts';
import { removalsInForce } from '../schemas/editing.ts';
import { ensureHook, hookIdOf, readBlob, readPairs } from '../versions/hook-pairs.ts';
import { decodeTargets, encodePairs } from '../versions/pairs.ts';
import type { VersionLog } from '../versions/version-log.ts';
import type { Versions } from '../versions/versions.ts';
import { requestOf } from './compute-targets.ts';
import type { EditStep } from './index.ts';
import { pulseOfThisStep } from './pulse.ts';
import { historyOfHead, remaining, stagedRows } from './step-rows.ts';

export async function stageUpdate(engine: Engine, versions: Versions, step: EditStep & { shards: TargetShard[] }): Promise<StagedUpdate> {
  const began = performance.now();
  const pulse = pulseOfThisStep();
  const log = versions.log(step.lineage);
  const history = await historyOfHead(log, step.head);

  const derived = await pulse.during({ stage: 'update' }, async () => {
    const refused: Refusal[] = [];
    let targets = await readTargets(log, step.shards);
    // A refusal brings its predecessor back, and with it another hook to start from, so the update is made again;
    // every turn has fewer corrections than the one before.
    for (;;) {
      if (targets.ids.length === 0) return { refused, rows: [] as string[], pairs: null as BlobReference | null };
      const base = remaining(history, removalsInForce(step.removals, targets.ids));
      const wanted = new Set(targets.ids);
      const requests = step.edits.map(requestOf).filter(({ id }) => wanted.has(id));
      const update = await engine.deriveUpdate(await ensureHook(engine, log, base), requests, targets);
      if (update.ids.length !== update.pairs.count && update.ids.length > 0) throw new RangeError(`${update.pairs.count} rows of pairs for ${update.ids.length} corrections`);
      refused.push(...update.refused);
      const next = remaining(history, removalsInForce(step.removals, update.ids));
      if (update.ids.length === 0 || hookIdOf(next) === hookIdOf(base)) {
        const pairs = update.ids.length === 0 ? null : await log.putBlob(encodePairs(update.pairs));
        return { refused, rows: update.ids, pairs };
      }
      targets = without(targets, update.refused);
    }
  });

  const rows = stagedRows(history, step.removals, derived);
  const layers = await pulse.during({ stage: 'hook' }, async () => {
    const hookId = hookIdOf(rows);
    return hookId === null ? [] : (await engine.holdHook(hookId, (await readPairs(log, rows))!)).layers;
  });
  return { ...derived, layers, madeWith: provenanceOf(await engine.describe()), seconds: (performance.now() - began) / 1_000 };
}

function provenanceOf({ model, keyStatistics, parameters, software }: EngineDescription): Provenance {
  return { base: { name: model.name, sha256: model.sha256, architecture: model.architecture }, keyStatistics, parameters, software };
}

/** The targets of all shards as one, in the order of the shards. */
async function readTargets(log: VersionLog, shards: readonly TargetShard[]): Promise<Targets> {
  const parts: Targets[] = [];
  for (const { targets } of shards) if (targets !== null) parts.push(await readBlob(log, targets, decodeTargets));
  const values = new Float32Array(parts.reduce((length, part) => length + part.values.length, 0));
  let at = 0;
  for (const part of parts) {
    values.set(part.values, at);
    at += part.values.length;
  }
  return { ids: parts.flatMap(({ ids }) => ids), values };
}

function without({ ids, values }: Targets, refused: readonly Refusal[]): Targets {
  const gone = new Set(refused.map(({ id }) => id));
  const width = values.length / ids.length;
  const kept = ids.flatMap((id, row) => (gone.has(id) ? [] : [row]));
  const left = new Float32Array(kept.length * width);
  kept.forEach((row, i) => left.set(values.subarray(row * width, (row + 1) * width), i * width));
  return { ids: kept.map((row) => ids[row]!), values: left };
}
