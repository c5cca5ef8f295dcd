/** `npm run study:ablation`. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { HyperParameterOverrides } from '../../schemas/editing.ts';
import {
  ablate,
  ABLATION_COLUMNS,
  defaultVariants,
  type AblationPoint,
  type Variant,
} from './ablation.ts';
import { rememberingBase } from './gated-engine.ts';
import { readStream, type Range } from './study-records.ts';
import { csvTable, markdownTable } from './tables.ts';
import { openWorkplace, type WorkplaceOptions } from './workplace.ts';

export interface AblationOptions extends WorkplaceOptions {
  records: Range[];
  batch: number;
  variants?: Record<string, HyperParameterOverrides>;
  only?: string[];
  sample: number;
}

export async function runAblation(options: AblationOptions): Promise<void> {
  const records = await readStream(options.data, options.records);
  const place = await openWorkplace('ablation', options);
  const base = place.parametersWith({});
  const given = Object.entries(options.variants ?? {}).map(([name, parameters]): Variant => ({
    name,
    parameters,
  }));
  const variants = [...defaultVariants(base), ...given].filter(
    ({ name }) => options.only === undefined || options.only.some((word) => name.includes(word)),
  );
  if (variants.length === 0)
    throw new Error(`no variant is named like ${options.only?.join(' or ')}`);
  const files = ['ablation.md', 'ablation.csv', 'ablation.json'].map((name) =>
    path.join(place.folder, name),
  ) as [string, string, string];
  const points: AblationPoint[] = [];
  let running: { variant: Variant; step: ReturnType<typeof place.progress.step> } | null = null;
  await ablate(
    variants,
    {
      records,
      batchSize: options.batch,
      asking: { sampleMax: options.sample, earliestMax: options.batch },
      circumstancesOf: ({ parameters }) => place.circumstances(parameters),
    },
    {
      folder: place.folder,
      points: place.points,
      openEngine: async ({ parameters }) => rememberingBase(await place.openEngine(parameters)),
      edited: (variant, corrections) => {
        if (running?.variant !== variant)
          running = {
            variant,
            step: place.progress.step(variant.name, { amount: records.length, unit: 'items' }),
          };
        running.step.at(corrections);
      },
      measured: async (point) => {
        running?.step.done();
        running = null;
        points.push(point);
        await mkdir(place.folder, { recursive: true });
        const title = `# What each part brings\n\n${records.length} corrections in batches of ${options.batch}; each row is one change against the first. Shares in %.\n\n`;
        await writeFile(files[0], title + markdownTable(ABLATION_COLUMNS, points));
        await writeFile(files[1], csvTable(ABLATION_COLUMNS, points));
        await writeFile(
          files[2],
          `${JSON.stringify({ circumstances: place.circumstances(), points }, null, 2)}\n`,
        );
      },
    },
  );
  process.stdout.write(`${markdownTable(ABLATION_COLUMNS, points)}\n${files.join('\n')}\n`);
}
