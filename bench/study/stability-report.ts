/** The stability study as files: two plots and the numbers beside them. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { svgOf, type Panel, type Plot } from './plots.ts';
import type { StabilityPoint, StreamResult } from './stability.ts';
import { csvTable, digits, markdownTable, percent, type Column } from './tables.ts';

export interface StabilityResults {
  /** One stream in batches of one size; null where it is not asked for. */
  byBatches: StreamResult | null;
  /** The end of one stream per batch size. */
  bySize: StabilityPoint[];
  /** What was edited with what, in a line. */
  about: string;
  /** Written into the JSON beside the results. */
  circumstances: Record<string, unknown>;
}

/** Writes what there is so far; complete files replace those before. Gives the files' paths. */
export async function writeStabilityReport(
  folder: string,
  results: StabilityResults,
): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const files = new Map<string, string>();
  const { byBatches, bySize, about } = results;
  let text = `# Stability\n\n${about}\n`;
  if (byBatches !== null && byBatches.points.length > 0) {
    files.set('stability-by-batches.svg', await svgOf(byBatchesPlot(byBatches, about)));
    files.set('stability-by-batches.csv', csvTable(COLUMNS, byBatches.points));
    text += `\n## Against the number of consecutive batches\n\n${markdownTable(COLUMNS, byBatches.points)}`;
  }
  if (bySize.length > 0) {
    files.set('stability-by-batch-size.svg', await svgOf(bySizePlot(bySize, about)));
    files.set('stability-by-batch-size.csv', csvTable(COLUMNS, bySize));
    text += `\n## Against the number of instances per batch\n\n${markdownTable(COLUMNS, bySize)}`;
  }
  files.set('stability.md', `${text}\n${LEGEND}`);
  files.set('stability.json', `${JSON.stringify(results, null, 2)}\n`);
  for (const [name, content] of files) await writeFile(path.join(folder, name), content);
  return [...files.keys()].map((name) => path.join(folder, name));
}

const LEGEND = `Shares in %, on a sample of the corrections made so far. Efficacy: every token of the target is the argmax, teacher-forced;
greedy: greedy decoding begins with the target. Paraphrase: p(new) > p(old) on the records' other wordings. Neighbours: the
next token is the base model's. Earliest: the stream's first corrections, asked again. Seconds per correction: mean since
the row before, everything included (planning, targets, update, hook, probes, commit).
`;

const COLUMNS: Column<StabilityPoint>[] = [
  { name: 'batch size', of: (point) => point.batchSize },
  { name: 'batches', of: (point) => point.batches },
  { name: 'corrections', of: (point) => point.corrections },
  { name: 'measured', of: (point) => point.sample },
  { name: 'refused', of: (point) => point.refused },
  { name: 'efficacy', of: (point) => point.efficacy, as: percent },
  { name: 'greedy', of: (point) => point.efficacyGreedy, as: percent },
  { name: 'p(new) > p(old)', of: (point) => point.preference, as: percent },
  { name: 'paraphrase', of: (point) => point.paraphrase, as: percent },
  { name: 'neighbours', of: (point) => point.neighboursUnchanged, as: percent },
  { name: 'perplexity ratio', of: (point) => point.perplexityRatio, as: digits(4) },
  {
    name: 'ordinary opened',
    of: (point) => point.ordinaryOpenShare,
    as: (share) => (100 * share).toFixed(2),
  },
  { name: 'earliest', of: (point) => point.earliest.efficacy, as: percent },
  { name: 'earliest greedy', of: (point) => point.earliest.efficacyGreedy, as: percent },
  { name: 's / correction', of: (point) => point.secondsPerCorrection, as: digits(2) },
  {
    name: 's / correction, targets',
    of: (point) => point.secondsTargetsPerCorrection,
    as: digits(2),
  },
  { name: 'resident GB', of: (point) => point.residentBytes / 1e9, as: digits(2) },
];

export function byBatchesPlot({ points, batches }: StreamResult, about: string): Plot {
  const x = (point: StabilityPoint) => point.batches;
  const timed = batches
    .map((batch, i) => ({ ...batch, x: i + 1 }))
    .filter((batch) => batch.seconds !== null && !batch.resumed);
  return {
    title: `Stability over consecutive batches of ${points[0]!.batchSize}`,
    subtitle: about,
    x: 'consecutive batches',
    panels: [
      ...qualityPanels(points, x),
      {
        title: 'seconds per correction',
        from: 0,
        series: [
          {
            name: 'whole batch',
            points: timed.map(({ x: at, begin, end, seconds }) => ({
              x: at,
              y: seconds! / (end - begin),
            })),
          },
          {
            name: 'of it target search',
            points: timed.map(({ x: at, begin, end, stages }) => ({
              x: at,
              y: stages === null ? null : (stages.targets + stages.context) / (end - begin),
            })),
          },
        ],
      },
      {
        title: 'memory (GB)',
        from: 0,
        heightPixels: 80,
        series: [
          {
            name: 'resident',
            points: batches.map(({ residentBytes }, i) => ({ x: i + 1, y: residentBytes / 1e9 })),
          },
        ],
      },
    ],
  };
}

export function bySizePlot(points: readonly StabilityPoint[], about: string): Plot {
  const x = (point: StabilityPoint) => point.batchSize;
  return {
    title: `Stability against instances per batch, ${Math.max(...points.map(({ corrections }) => corrections))} corrections in all`,
    subtitle: about,
    x: 'instances per batch (logarithmic)',
    logarithmic: true,
    panels: [
      ...qualityPanels(points, x),
      {
        title: 'seconds per correction',
        from: 0,
        series: [
          {
            name: 'whole batch',
            points: points.map((point) => ({ x: x(point), y: point.secondsPerCorrection })),
          },
          {
            name: 'of it target search',
            points: points.map((point) => ({ x: x(point), y: point.secondsTargetsPerCorrection })),
          },
        ],
      },
    ],
  };
}

function qualityPanels(
  points: readonly StabilityPoint[],
  x: (point: StabilityPoint) => number,
): Panel[] {
  const line = (name: string, y: (point: StabilityPoint) => number | null) => ({
    name,
    points: points.map((point) => ({ x: x(point), y: scaled(y(point)) })),
  });
  const scaled = (share: number | null) => (share === null ? null : 100 * share);
  return [
    {
      title: 'corrections (%)',
      to: 100,
      heightPixels: 230,
      series: [
        line('efficacy, teacher-forced', (point) => point.efficacy),
        line('efficacy, greedy decoding', (point) => point.efficacyGreedy),
        line('paraphrases, p(new) > p(old)', (point) => point.paraphrase),
        line('neighbours unchanged', (point) => point.neighboursUnchanged),
        line('earliest ones, greedy', (point) => point.earliest.efficacyGreedy),
      ],
    },
    {
      title: 'perplexity ratio',
      heightPixels: 100,
      marks: [{ y: 1, name: 'base model' }],
      series: [
        {
          name: 'edited / base',
          points: points.map((point) => ({ x: x(point), y: point.perplexityRatio })),
        },
      ],
    },
  ];
}
