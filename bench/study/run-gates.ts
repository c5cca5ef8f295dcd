/** `npm run study:gates`. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { GateParameters } from '../../schemas/editing.ts';
import { rememberingBase } from './gated-engine.ts';
import { compareGates, GATE_COLUMNS, GATE_KINDS, type GatePoint, type NamedGate } from './gates.ts';
import { readStream, type Range } from './study-records.ts';
import { csvTable, markdownTable } from './tables.ts';
import { openWorkplace, type WorkplaceOptions } from './workplace.ts';

export interface GatesOptions extends WorkplaceOptions {
  records: Range[];
  unmeasured: Range[];
  batch: number;
  marks: number[];
  gates?: Record<string, Partial<GateParameters>>;
  sample: number;
}

/** Shorter where the model's context is: half of it at most. */
const ORDINARY = { sequences: 24, tokensPerSequence: 120, seed: 1 };
const EARLIEST_MAX = 200;

export async function runGates(options: GatesOptions): Promise<void> {
  const marks = options.marks;
  const records = (await readStream(options.data, options.records)).slice(0, Math.max(...marks));
  const place = await openWorkplace('gates', options);
  const gate = place.parametersWith({}).gate;
  const asked: Record<string, Partial<GateParameters>> = options.gates ?? {
    ...Object.fromEntries(GATE_KINDS.map((kind) => [kind, { kind }])),
    'subject, one map for all': { kind: 'subject', map: 'joint' },
  };
  const gates = Object.entries(asked).map(([name, parameters]): NamedGate => ({
    name,
    gate: place.parametersWith({ gate: parameters }).gate,
  }));
  const engine = rememberingBase(await place.openEngine());
  const points: GatePoint[] = [];
  const files = ['gates.md', 'gates.csv', 'gates.json'].map((name) =>
    path.join(place.folder, name),
  ) as [string, string, string];
  try {
    const { model, parameters, software } = await engine.describe();
    const circumstances = place.circumstances();
    const ordinary = {
      ...ORDINARY,
      tokensPerSequence: Math.min(ORDINARY.tokensPerSequence, Math.floor(model.contextMax / 2)),
    };
    const step = place.progress.step(`editing in batches of ${options.batch}`, {
      amount: records.length,
      unit: 'items',
    });
    await compareGates(
      engine,
      {
        records,
        unmeasured: options.unmeasured,
        batchSize: options.batch,
        marks,
        gates,
        asking: { sampleMax: options.sample, earliestMax: EARLIEST_MAX },
        ordinary,
        circumstances,
      },
      {
        folder: place.folder,
        points: place.points,
        edited: (corrections) => step.at(corrections),
        measured: async (point) => {
          points.push(point);
          place.progress.note(`${point.corrections} corrections, ${point.name}: measured`);
          await mkdir(place.folder, { recursive: true });
          const title = `# Gates before the same weights\n\n${model.name}, blocks ${parameters.layers.join(', ')}, edited behind the gate "${gate.kind}" in batches of ${options.batch}.\nShares in %; ordinary tokens opened: at the block where most are, of ${point.ordinary.tokens} tokens.\n\n`;
          await writeFile(files[0], title + markdownTable(GATE_COLUMNS, points));
          await writeFile(files[1], csvTable(GATE_COLUMNS, points));
          await writeFile(
            files[2],
            `${JSON.stringify({ circumstances: { ...circumstances, software }, points }, null, 2)}\n`,
          );
        },
      },
    );
    step.done();
    process.stdout.write(`${markdownTable(GATE_COLUMNS, points)}\n${files.join('\n')}\n`);
  } finally {
    await engine.close();
  }
}
