/** Edits records in a temporary folder and measures quality, time and memory at the end. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Engine } from '../model/engine/engine.ts';
import type { FactRecord } from '../operations/tune/fact-records.ts';
import { measureFacts } from '../operations/tune/measure-facts.ts';
import { batchEnds, EditedStream } from './edited-stream.ts';
import { noSeconds, type StageSeconds } from './wrapped-engine.ts';

export type BenchResult = Awaited<ReturnType<typeof editStream>>;

export async function editStream(
  engine: Engine,
  records: readonly FactRecord[],
  batchSize: number,
  progress: (done: number) => void,
) {
  const folder = await mkdtemp(path.join(tmpdir(), 'errata-bench-'));
  try {
    const { length: corrections } = records;
    const revisions = records.map(({ revision }) => revision);
    const stream = new EditedStream(folder, engine, revisions, batchEnds(corrections, batchSize));
    await stream.advanceTo(corrections, progress);
    const peakRssBytes = process.resourceUsage().maxRSS * 1024;
    const latest = latestOfEachFact(records);
    const held = (await stream.rowsAt(corrections)).length;
    const measured = await measureFacts(engine, await stream.hookAt(corrections), latest);
    const secondsByBatch = stream.done.map(({ seconds }) => seconds!);
    const stages = noSeconds();
    for (const batch of stream.done)
      for (const stage of Object.keys(stages) as (keyof StageSeconds)[])
        stages[stage] += batch.stages![stage];
    return {
      corrections,
      batches: secondsByBatch.length,
      batchSize,
      /** Corrections replaced by a later record of the same fact. They are not measured. */
      superseded: corrections - latest.length,
      refused: latest.length - held,
      ...measured,
      secondsPerCorrection: secondsByBatch.reduce((sum, one) => sum + one, 0) / corrections,
      stages,
      secondsByBatch,
      peakRssBytes,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Returns the last record of each fact, which supersedes the earlier ones. */
export function latestOfEachFact<Fact extends FactRecord>(records: readonly Fact[]): Fact[] {
  return [...new Map(records.map((record) => [record.revision.factKey, record])).values()];
}
