/** Writes the stability study as two plots and the numbers behind them. */
import type { BatchDone } from '../edited-stream.ts';
import { csvTable, digits, markdownTable, percent, type Column } from '../tables.ts';
import { svgOf, type Panel, type Plot, type Series } from './plots.ts';
import { EARLIEST_GREEDY, measureColumns, type MarkMeasures } from './stream-measures.ts';

export interface StabilityPoint extends MarkMeasures {
  batchSize: number;
  batches: number;
  corrections: number;
  refused: number;
  /** Mean over the batches since the last mark; null if none was fully timed. */
  secondsPerCorrection: number | null;
  secondsTargetsPerCorrection: number | null;
  residentBytes: number;
}

/** A stream's results up to a mark. */
export interface StreamResult {
  points: StabilityPoint[];
  batches: BatchDone[];
}

export interface StabilityResults {
  /** Results for one stream in batches of one size; null if not requested. */
  byBatches: StreamResult | null;
  /** The end of one stream per batch size. */
  bySize: StabilityPoint[];
  /** Model, blocks and gate in one line. */
  about: string;
  circumstances: Record<string, unknown>;
}

/** Returns the report's files by name, with the results so far. */
export async function stabilityReport(results: StabilityResults): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  const { byBatches, bySize, about } = results;
  let text = `# Stability\n\n${about}\n`;
  const add = async (name: string, title: string, plot: Plot, points: StabilityPoint[]) => {
    files[`${name}.svg`] = await svgOf(plot);
    files[`${name}.csv`] = csvTable(COLUMNS, points);
    text += `\n## Against the number of ${title}\n\n${markdownTable(COLUMNS, points)}`;
  };
  if (byBatches !== null && byBatches.points.length > 0) {
    const plot = byBatchesPlot(byBatches, about);
    await add('stability-by-batches', 'consecutive batches', plot, byBatches.points);
  }
  if (bySize.length > 0) {
    const plot = bySizePlot(bySize, about);
    await add('stability-by-batch-size', 'instances per batch', plot, bySize);
  }
  files['stability.md'] = `${text}\n${LEGEND}`;
  files['stability.json'] = `${JSON.stringify(results, null, 2)}\n`;
  return files;
}

const LEGEND = `\
Shares in %, on a sample of the corrections made so far. Efficacy: every token of the target is the
argmax, teacher-forced; greedy: greedy decoding begins with the target. Paraphrase: p(new) > p(old)
on the records' other wordings. Neighbours: the next token is the base model's. Earliest: the
stream's first corrections, asked again. Seconds per correction: mean since the row before,
everything included (planning, targets, update, hook, probes, commit).
`;

const COLUMNS: Column<StabilityPoint>[] = [
  ['batch size', 'batchSize'],
  ['batches', 'batches'],
  ['corrections', 'corrections'],
  ['measured', 'sample'],
  ['refused', 'refused'],
  ...measureColumns('preference', 'paraphrase', 'neighboursUnchanged'),
  ['ordinary opened', 'ordinaryOpenShare', (share) => (100 * share).toFixed(2)],
  ['earliest', ({ earliest }) => earliest.efficacy, percent],
  EARLIEST_GREEDY,
  ['s / correction', 'secondsPerCorrection', digits(2)],
  ['s / correction, targets', 'secondsTargetsPerCorrection', digits(2)],
  ['resident GB', ({ residentBytes }) => residentBytes / 1e9, digits(2)],
];

function byBatchesPlot({ points, batches }: StreamResult, about: string): Plot {
  const timed = batches
    .map((batch, i) => ({ ...batch, x: i + 1, corrections: batch.end - batch.begin }))
    .filter(({ seconds, resumed }) => seconds !== null && !resumed);
  const resident = batches.map((batch, i) => ({ x: i + 1, y: batch.residentBytes / 1e9 }));
  return {
    title: `Stability over consecutive batches of ${points[0]!.batchSize}`,
    subtitle: about,
    x: 'consecutive batches',
    panels: [
      ...qualityPanels(points, 'batches'),
      secondsPanel(
        timed.map(({ x, seconds, corrections }) => ({ x, y: seconds! / corrections })),
        timed.map(({ x, stages, corrections }) => {
          return { x, y: (stages!.targets + stages!.context) / corrections };
        }),
      ),
      {
        title: 'memory (GB)',
        from: 0,
        heightPixels: 80,
        series: [{ name: 'resident', points: resident }],
      },
    ],
  };
}

function bySizePlot(points: readonly StabilityPoint[], about: string): Plot {
  const total = Math.max(...points.map(({ corrections }) => corrections));
  return {
    title: `Stability against instances per batch, ${total} corrections in all`,
    subtitle: about,
    x: 'instances per batch (logarithmic)',
    logarithmic: true,
    panels: [
      ...qualityPanels(points, 'batchSize'),
      secondsPanel(
        points.map(({ batchSize: x, secondsPerCorrection: y }) => ({ x, y })),
        points.map(({ batchSize: x, secondsTargetsPerCorrection: y }) => ({ x, y })),
      ),
    ],
  };
}

function secondsPanel(whole: Series['points'], targets: Series['points']): Panel {
  return {
    title: 'seconds per correction',
    from: 0,
    series: [
      { name: 'whole batch', points: whole },
      { name: 'its target search', points: targets },
    ],
  };
}

function qualityPanels(points: readonly StabilityPoint[], x: 'batches' | 'batchSize'): Panel[] {
  const line = (name: string, of: (point: StabilityPoint) => number | null): Series => ({
    name,
    points: points.map((point) => ({ x: point[x], y: of(point) })),
  });
  const shares = (name: string, of: (point: StabilityPoint) => number | null) =>
    line(name, (point) => {
      const share = of(point);
      return share === null ? null : 100 * share;
    });
  return [
    {
      title: 'corrections (%)',
      to: 100,
      heightPixels: 230,
      series: [
        shares('efficacy, teacher-forced', (point) => point.efficacy),
        shares('efficacy, greedy decoding', (point) => point.efficacyGreedy),
        shares('paraphrases, p(new) > p(old)', (point) => point.paraphrase),
        shares('neighbours unchanged', (point) => point.neighboursUnchanged),
        shares('earliest ones, greedy', (point) => point.earliest.efficacyGreedy),
      ],
    },
    {
      title: 'perplexity ratio',
      heightPixels: 100,
      marks: [{ y: 1, name: 'base model' }],
      series: [line('edited / base', (point) => point.perplexityRatio)],
    },
  ];
}
