/** Runs this folder's PyTorch program with the weights, statistics and tokens of a run. */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Configuration } from '../../infra/config/configuration.ts';
import { homeAt } from '../../infra/config/home.ts';
import { modelPathOf } from '../../infra/config/engine-options.ts';
import type { Progress } from '../../infra/setup/progress.ts';
import { runClient } from '../../infra/setup/provision/client-process.ts';
import { openCheckpoint } from '../../model/checkpoint/checkpoint.ts';
import type { EngineDescription } from '../../model/engine-types.ts';
import type { FactRecord } from '../../operations/tune/fact-records.ts';
import { during, stepPerLabel } from '../command.ts';
import { exportModel } from './export-model.ts';
import { keptStatistics } from './kept-statistics.ts';
import { pythonWithTorch } from './python.ts';
import { referenceResultSchema, type ReferenceResult } from './reference-result.ts';
import { referenceParameters, referenceRecords, type ReferenceTask } from './task.ts';

export interface ReferenceRun {
  configuration: Configuration;
  /** The engine that edited the same records. */
  description: EngineDescription;
  records: readonly FactRecord[];
  batchSize: number;
  progress: Progress;
}

/** Ten times the measured time per correction on two cores. */
const WAIT_PER_CORRECTION_MS = 300_000;
const START_WAIT_MS = 600_000;

/**
 * Throws NotExportable, ProvisionError with the end of the program's output, or RangeError for
 * records that cannot be edited.
 */
export async function runReference(run: ReferenceRun): Promise<ReferenceResult> {
  const { configuration, description, progress } = run;
  const python = await pythonWithTorch(configuration.home, progress);
  const modelPath = modelPathOf(configuration);
  const folder = await mkdtemp(path.join(tmpdir(), 'errata-reference-'));
  try {
    const checkpoint = await openCheckpoint(modelPath);
    const task: ReferenceTask = {
      modelFolder: modelPath,
      statistics: await keptStatistics(
        homeAt(configuration.home).keyStatistics,
        description.parameters.layers,
        description.keyStatistics.sha256,
      ),
      device: configuration.device === 'gpu' ? 'cuda' : 'cpu',
      // PyTorch's default omits logical processors that TensorFlow uses.
      threads: availableParallelism(),
      batchSize: run.batchSize,
      parameters: referenceParameters(description),
      records: referenceRecords(checkpoint.tokenizer, run.records),
    };
    try {
      if (!existsSync(path.join(modelPath, 'config.json'))) {
        task.modelFolder = path.join(folder, 'model');
        const write = (at: (done: number) => void) =>
          exportModel(checkpoint, task.modelFolder, (share) => at(Math.round(100 * share)));
        await during(progress, 'writing the model for PyTorch', write, 100);
      }
    } finally {
      await checkpoint.close();
    }
    const taskFile = path.join(folder, 'task.json');
    const resultFile = path.join(folder, 'result.json');
    await writeFile(taskFile, JSON.stringify(task));
    const stages = stepPerLabel(progress);
    try {
      await runClient({
        executable: python,
        args: [fileURLToPath(new URL('main.py', import.meta.url)), taskFile, resultFile],
        folder,
        environment: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', HF_HUB_OFFLINE: '1' },
        waitMs: START_WAIT_MS + WAIT_PER_CORRECTION_MS * run.records.length,
        onLine: (line) => {
          const [, label, done, all] = /^progress (.+): (\d+) of (\d+)$/.exec(line) ?? [];
          if (label !== undefined) stages.at(label, Number(done), Number(all));
        },
        hint: 'The bench without --compare-reference does not need it.',
      });
    } finally {
      stages.done();
    }
    return referenceResultSchema.parse(JSON.parse(await readFile(resultFile, 'utf8')) as unknown);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
