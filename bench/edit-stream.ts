/** Edits records as `errata tune` does, and times the stages beside what it measures. */
import type { Engine } from '../model/engine/engine.ts';
import { editFacts } from '../operations/tune/edit-facts.ts';
import type { FactRecord } from '../operations/tune/fact-records.ts';
import { measureFacts, type FactMeasures } from '../operations/tune/measure-facts.ts';
import { noSeconds, timed, timedEngine, type StageSeconds } from './stages.ts';

export interface BenchResult extends FactMeasures {
  corrections: number;
  batches: number;
  batchSize: number;
  /** Corrections that a later record of the same fact replaced; the measures leave them out. */
  superseded: number;
  refused: number;
  secondsPerCorrection: number;
  stages: StageSeconds;
  secondsByBatch: number[];
  peakRssBytes: number;
}

export async function editStream(
  engine: Engine,
  records: readonly FactRecord[],
  batchSize: number,
  progress: (done: number) => void,
): Promise<BenchResult> {
  const stages = noSeconds();
  const { hookId, latest, held, secondsByBatch } = await editFacts(
    timedEngine(engine, stages),
    records,
    {
      batchEdits: batchSize,
      progress,
      wrap: (steps) => ({
        ...steps,
        planBatch: (step) => timed(stages, 'commit', () => steps.planBatch(step)),
        commitVersion: (step) => timed(stages, 'commit', () => steps.commitVersion(step)),
      }),
    },
  );
  const seconds = secondsByBatch.reduce((sum, one) => sum + one, 0);
  const peakRssBytes = process.resourceUsage().maxRSS * 1024;
  const measured = await measureFacts(engine, hookId, latest);
  return {
    corrections: records.length,
    batches: secondsByBatch.length,
    batchSize,
    superseded: records.length - latest.length,
    refused: latest.length - held,
    ...measured,
    secondsPerCorrection: seconds / records.length,
    stages,
    secondsByBatch,
    peakRssBytes,
  };
}
