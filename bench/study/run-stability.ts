/** `npm run study:stability`. */
import { rememberingBase } from './gated-engine.ts';
import { stabilityOfStream, type StabilityPoint, type StreamResult } from './stability.ts';
import { writeStabilityReport } from './stability-report.ts';
import { readStream, type Range } from './study-records.ts';
import { openWorkplace, type WorkplaceOptions } from './workplace.ts';

export interface StabilityOptions extends WorkplaceOptions {
  records: Range[];
  unmeasured: Range[];
  batch: number;
  marks: number[];
  total: number;
  sizes: number[];
  only?: 'batches' | 'sizes';
  sample: number;
}

const EARLIEST_MAX = 200;

export async function runStability(options: StabilityOptions): Promise<void> {
  const records = await readStream(options.data, options.records);
  const place = await openWorkplace('stability', options);
  const engine = rememberingBase(await place.openEngine());
  try {
    const { model, parameters, software } = await engine.describe();
    const about = `${model.name}, blocks ${parameters.layers.join(', ')}, gate ${parameters.gate.kind}; measured on samples of at most ${options.sample} corrections`;
    const circumstances = { ...place.circumstances(), software, keptIn: place.folder };
    const common = { unmeasured: options.unmeasured, circumstances: place.circumstances() };
    let byBatches: StreamResult | null = null;
    const bySize: StabilityPoint[] = [];
    let files: string[] = [];
    const report = async () => {
      files = await writeStabilityReport(place.folder, { byBatches, bySize, about, circumstances });
    };

    if (options.only !== 'sizes') {
      const step = place.progress.step(`batches of ${options.batch}`, {
        amount: records.length,
        unit: 'items',
      });
      byBatches = await stabilityOfStream(
        engine,
        {
          ...common,
          records,
          batchSize: options.batch,
          marks: options.marks,
          asking: { sampleMax: options.sample, earliestMax: Math.min(EARLIEST_MAX, options.batch) },
        },
        {
          folder: place.folder,
          points: place.points,
          edited: (corrections) => step.at(corrections),
          found: (result) => {
            byBatches = result;
            return report();
          },
        },
      );
      step.done();
    }
    if (options.only !== 'batches') {
      const stream = records.slice(0, options.total);
      for (const size of options.sizes
        .filter((one) => one <= stream.length)
        .sort((a, b) => b - a)) {
        const step = place.progress.step(`${stream.length} in batches of ${size}`, {
          amount: stream.length,
          unit: 'items',
        });
        const { points } = await stabilityOfStream(
          engine,
          {
            ...common,
            records: stream,
            batchSize: size,
            marks: [],
            asking: { sampleMax: options.sample, earliestMax: EARLIEST_OF_TOTAL_MAX },
          },
          {
            folder: place.folder,
            points: place.points,
            edited: (corrections) => step.at(corrections),
            found: () => {},
          },
        );
        step.done();
        bySize.push(points.at(-1)!);
        bySize.sort((a, b) => a.batchSize - b.batchSize);
        await report();
      }
    }
    process.stdout.write(`${files.join('\n')}\n`);
  } finally {
    await engine.close();
  }
}

/** The same corrections for every batch size. */
const EARLIEST_OF_TOTAL_MAX = 50;
