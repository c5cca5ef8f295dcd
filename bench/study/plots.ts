/**
 * Line plots as SVG, panels one under the other over one x axis. The only file that knows Vega.
 * Drawn without a canvas: text widths are estimates, which is why labels are short and the legend
 * stands to the right.
 */
import * as vega from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';

export interface Panel {
  /** Of the y axis, with its unit. */
  title: string;
  series: { name: string; points: { x: number; y: number | null }[] }[];
  /** A horizontal line and what it stands for, such as what is to be reached. */
  marks?: { y: number; name: string }[];
  /** Where the y axis must begin or end; without it, at what was measured. */
  from?: number;
  to?: number;
  heightPixels?: number;
}

export interface Plot {
  title: string;
  /** What was edited with what, in a line. */
  subtitle: string;
  /** Of the x axis, with its unit. */
  x: string;
  logarithmic?: boolean;
  panels: Panel[];
}

/**
 * The plot as an SVG document. Points that are null are left out; a panel without points is, too.
 */
export async function svgOf(plot: Plot): Promise<string> {
  const { spec } = compile(specOf(plot));
  const view = new vega.View(vega.parse(spec), { renderer: 'none', logLevel: vega.Error });
  try {
    return `${await view.toSVG()}\n`;
  } finally {
    view.finalize();
  }
}

const WIDTH_PIXELS = 560;
const HEIGHT_PIXELS = 150;
/** Okabe and Ito's colours, which the colour-blind tell apart; black last. */
const COLOURS = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000'];
const SHAPES = [
  'circle',
  'square',
  'triangle-up',
  'diamond',
  'cross',
  'triangle-down',
  'triangle-right',
];

export function specOf({ title, subtitle, x, logarithmic = false, panels }: Plot): TopLevelSpec {
  const drawn = panels
    .map((panel) => ({
      ...panel,
      values: panel.series.flatMap(({ name, points }) =>
        points.flatMap((point) =>
          point.y === null ? [] : [{ x: point.x, y: point.y, series: name }],
        ),
      ),
    }))
    .filter(({ values }) => values.length > 0);
  const places = [...new Set(drawn.flatMap(({ values }) => values.map((value) => value.x)))].sort(
    (a, b) => a - b,
  );
  const scale = logarithmic ? { type: 'log' as const, nice: false } : { zero: true, nice: true };
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    background: 'white',
    padding: 12,
    title: {
      text: title,
      subtitle,
      anchor: 'start',
      fontSize: 15,
      subtitleFontSize: 11,
      subtitleColor: '#555',
      offset: 12,
    },
    config: {
      font: 'Helvetica, Arial, sans-serif',
      axis: {
        gridColor: '#e6e6e6',
        labelFontSize: 11,
        titleFontSize: 12,
        titleFontWeight: 'normal',
      },
      legend: { labelFontSize: 11, labelLimit: 320, symbolSize: 60 },
      view: { stroke: '#bbb' },
    },
    resolve: { scale: { color: 'independent', shape: 'independent' } },
    vconcat: drawn.map(
      ({ title: y, series, values, marks = [], from, to, heightPixels = HEIGHT_PIXELS }, i) => {
        const names = series.map(({ name }) => name);
        const xAxis = {
          title: i === drawn.length - 1 ? x : null,
          ...(logarithmic ? { values: places, labelOverlap: true } : { tickMinStep: 1 }),
        };
        const domain = {
          ...(from === undefined ? {} : { domainMin: from }),
          ...(to === undefined ? {} : { domainMax: to }),
        };
        const key = { domain: names, range: COLOURS.slice(0, names.length) };
        return {
          width: WIDTH_PIXELS,
          height: heightPixels,
          layer: [
            {
              data: { values },
              mark: {
                type: 'line' as const,
                point: { size: 42, filled: true },
                strokeWidth: 1.8,
                opacity: 0.85,
              },
              encoding: {
                x: { field: 'x', type: 'quantitative' as const, scale, axis: xAxis },
                y: {
                  field: 'y',
                  type: 'quantitative' as const,
                  scale: { zero: false, nice: true, ...domain },
                  axis: {
                    title: y,
                    tickCount: heightPixels < HEIGHT_PIXELS ? 3 : 5,
                    minExtent: 44,
                  },
                },
                color: {
                  field: 'series',
                  type: 'nominal' as const,
                  scale: key,
                  legend: { title: null },
                },
                shape: {
                  field: 'series',
                  type: 'nominal' as const,
                  scale: { domain: names, range: SHAPES.slice(0, names.length) },
                  legend: { title: null },
                },
              },
            },
            ...(marks.length === 0
              ? []
              : [
                  {
                    data: { values: marks },
                    mark: { type: 'rule' as const, strokeDash: [4, 4], color: '#888' },
                    encoding: { y: { field: 'y', type: 'quantitative' as const } },
                  },
                  {
                    data: { values: marks },
                    mark: {
                      type: 'text' as const,
                      align: 'right' as const,
                      baseline: 'bottom' as const,
                      dy: -2,
                      fontSize: 10,
                      color: '#666',
                    },
                    encoding: {
                      x: { value: WIDTH_PIXELS - 4 },
                      y: { field: 'y', type: 'quantitative' as const },
                      text: { field: 'name', type: 'nominal' as const },
                    },
                  },
                ]),
          ],
        };
      },
    ),
  };
}
