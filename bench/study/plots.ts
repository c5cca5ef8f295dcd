/**
 * Line plots as SVG, with panels stacked over one x axis. This is the only file that uses Vega.
 * Without a canvas, text widths are estimates, so labels are short and the legend is on the right.
 */
import * as vega from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';

export interface Series {
  name: string;
  /** Points with a null y are omitted. */
  points: { x: number; y: number | null }[];
}

export interface Panel {
  /** The y-axis label with its unit. */
  title: string;
  series: Series[];
  /** Horizontal lines, such as a target value. */
  marks?: { y: number; name: string }[];
  /** Limits of the y axis; the default is the range of the data. */
  from?: number;
  to?: number;
  heightPixels?: number;
}

export interface Plot {
  title: string;
  subtitle: string;
  /** The x-axis label with its unit. */
  x: string;
  logarithmic?: boolean;
  panels: Panel[];
}

/** Renders the plot as an SVG document; panels without points are omitted. */
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
/** Okabe and Ito's palette, which colour-blind readers can distinguish. */
const COLOURS = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000'];
const SHAPES = 'circle square triangle-up diamond cross triangle-down triangle-right'.split(' ');

function specOf({ title, subtitle, x, logarithmic = false, panels }: Plot): TopLevelSpec {
  const drawn = panels
    .map((panel) => ({ ...panel, values: valuesOf(panel) }))
    .filter(({ values }) => values.length > 0);
  const places = new Set(drawn.flatMap(({ values }) => values.map((value) => value.x)));
  const axis = logarithmic
    ? { values: [...places].sort((a, b) => a - b), labelOverlap: true }
    : { tickMinStep: 1 };
  const scale = logarithmic ? { type: 'log', nice: false } : { zero: true, nice: true };
  const xAt = (i: number) => ({
    ...{ field: 'x', type: 'quantitative', scale },
    axis: { title: i === drawn.length - 1 ? x : null, ...axis },
  });
  const spec = {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    background: 'white',
    padding: 12,
    title: { text: title, subtitle, ...TITLE_STYLE },
    config: STYLE,
    resolve: { scale: { color: 'independent', shape: 'independent' } },
    vconcat: drawn.map((panel, i) => ({
      width: WIDTH_PIXELS,
      height: panel.heightPixels ?? HEIGHT_PIXELS,
      layer: [lines(panel, xAt(i)), ...markLayers(panel.marks ?? [])],
    })),
  };
  return spec as TopLevelSpec;
}

const TITLE_STYLE = {
  anchor: 'start',
  fontSize: 15,
  subtitleFontSize: 11,
  subtitleColor: '#555',
  offset: 12,
};

const STYLE = {
  font: 'Helvetica, Arial, sans-serif',
  axis: { gridColor: '#e6e6e6', labelFontSize: 11, titleFontSize: 12, titleFontWeight: 'normal' },
  legend: { labelFontSize: 11, labelLimit: 320, symbolSize: 60 },
  view: { stroke: '#bbb' },
};

type Value = ReturnType<typeof valuesOf>[number];

function valuesOf({ series }: Panel) {
  return series.flatMap(({ name, points }) =>
    points.flatMap(({ x, y }) => (y === null ? [] : [{ x, y, series: name }])),
  );
}

function lines(panel: Panel & { values: Value[] }, x: object): object {
  const { title, series, values, from, to, heightPixels = HEIGHT_PIXELS } = panel;
  const names = series.map(({ name }) => name);
  const bySeries = (range: string[]) => ({
    field: 'series',
    type: 'nominal',
    scale: { domain: names, range: range.slice(0, names.length) },
    legend: { title: null },
  });
  const tickCount = heightPixels < HEIGHT_PIXELS ? 3 : 5;
  return {
    data: { values },
    mark: { type: 'line', point: { size: 42, filled: true }, strokeWidth: 1.8, opacity: 0.85 },
    encoding: {
      x,
      y: {
        field: 'y',
        type: 'quantitative',
        scale: { zero: false, nice: true, domainMin: from, domainMax: to },
        axis: { title, tickCount, minExtent: 44 },
      },
      color: bySeries(COLOURS),
      shape: bySeries(SHAPES),
    },
  };
}

/** Draws dashed lines with their names at the right end. */
function markLayers(values: NonNullable<Panel['marks']>): object[] {
  if (values.length === 0) return [];
  const y = { field: 'y', type: 'quantitative' };
  const rule = { type: 'rule', strokeDash: [4, 4], color: '#888' };
  const place = { align: 'right', baseline: 'bottom', dy: -2 };
  const text = { type: 'text', ...place, fontSize: 10, color: '#666' };
  const named = { x: { value: WIDTH_PIXELS - 4 }, y, text: { field: 'name', type: 'nominal' } };
  return [
    { data: { values }, mark: rule, encoding: { y } },
    { data: { values }, mark: text, encoding: named },
  ];
}
