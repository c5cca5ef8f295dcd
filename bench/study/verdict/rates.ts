/** Error rates, score distributions, and the thresholds that follow from them. */
import type { ProbeScores } from '../../../schemas/editing.ts';
import type { VerdictSettings } from '../../../schemas/settings.ts';
import { digits, percent, type Column } from '../../tables.ts';
import type { Trial } from './trials.ts';

export type KindRates = ReturnType<typeof ratesOf>[number];

export function ratesOf(trials: readonly Trial[]) {
  return kindsOf(trials).map((kind) => {
    const tried = trials.filter((trial) => trial.kind === kind);
    const { length: batches } = tried;
    const { good } = tried[0]!;
    const refused = tried.filter(({ outcome }) => outcome === 'refused');
    const refusedAsBatch = refused.filter(({ reasons }) => reasons.length > 0).length;
    const unfit = tried.filter(({ outcome }) => outcome === 'unfit').length;
    const accepted = batches - refused.length - unfit;
    return {
      kind,
      good,
      batches,
      accepted,
      /** Refused before any measurement. */
      unfit,
      /** Refused as a batch, possibly for individual corrections too. */
      refusedAsBatch,
      refusedForMembers: refused.length - refusedAsBatch,
      /** Share of wrongly decided batches: good ones refused, bad ones accepted. */
      wrong: (good ? batches - accepted : accepted) / batches,
      blamed: tried.reduce((sum, { blamed }) => sum + blamed, 0),
      corrections: tried.reduce((sum, { corrections }) => sum + corrections, 0),
    };
  });
}

export const SCORES = [
  'efficacy',
  'efficacyGreedy',
  'generalisation',
  'locality',
  'retention',
  'canaryRatio',
  'editNorm',
] as const satisfies readonly (keyof ProbeScores)[];
type Score = (typeof SCORES)[number];

export type Distribution = ReturnType<typeof distributionsOf>[number];

/** Minimum, 5th, 25th, 50th, 75th and 95th percentile, maximum. */
export const QUANTILES = [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1] as const;

export function distributionsOf(trials: readonly Trial[]) {
  return SCORES.flatMap((score) =>
    kindsOf(trials).flatMap((kind) => {
      const values = valuesOf(
        trials.filter((trial) => trial.kind === kind),
        score,
      );
      if (values.length === 0) return [];
      const quantiles = QUANTILES.map((share) => quantile(values, share));
      return [{ score, kind, count: values.length, quantiles }];
    }),
  );
}

export interface Proposal {
  setting: keyof VerdictSettings;
  now: number;
  /** Null if no bad batch is worse than the good ones. */
  proposed: number | null;
  /** Judged by this score and threshold alone. */
  goodRefusedNow: number;
  badCaughtNow: number;
  goodRefused: number;
  badCaught: number;
}

/** The largest share of good batches that a proposed threshold may refuse. */
const GOOD_REFUSED_MAX = 0.05;

const THRESHOLDS = [
  { setting: 'generalisationMin', score: 'generalisation', least: true },
  { setting: 'localityMin', score: 'locality', least: true },
  { setting: 'retentionMin', score: 'retention', least: true },
  { setting: 'canaryRatioMax', score: 'canaryRatio', least: false },
  { setting: 'editNormMax', score: 'editNorm', least: false },
] as const;

/**
 * Proposes thresholds that refuse at most one good batch in twenty. Each is halfway from the worst
 * good batch that it accepts to the next worse bad batch. It is at most the range of the good
 * batches away from the former (or a hundredth of its value, if that is more).
 */
export function proposalsOf(trials: readonly Trial[], settings: VerdictSettings): Proposal[] {
  return THRESHOLDS.map(({ setting, score, least }): Proposal => {
    // Flips the sign so that larger is worse.
    const turn = least ? -1 : 1;
    const [goods, bads] = [true, false].map((good) => {
      const values = valuesOf(
        trials.filter((trial) => trial.good === good),
        score,
      );
      return values.map((value) => turn * value).sort((a, b) => a - b);
    }) as [number[], number[]];
    const worse = (values: readonly number[], threshold: number) =>
      values.length === 0 ? 0 : values.filter((value) => value > threshold).length / values.length;
    const now = settings[setting];
    const rates = {
      ...{ setting, now },
      goodRefusedNow: worse(goods, turn * now),
      badCaughtNow: worse(bads, turn * now),
    };
    const worst = goods[goods.length - 1 - Math.floor(GOOD_REFUSED_MAX * goods.length)];
    const next = worst === undefined ? undefined : bads.find((value) => value > worst);
    if (worst === undefined || next === undefined)
      return { ...rates, proposed: null, goodRefused: 0, badCaught: 0 };
    const room = Math.max(goods.at(-1)! - goods[0]!, 0.01 * Math.abs(worst));
    const threshold = worst + Math.min((next - worst) / 2, room);
    const proposed = turn * threshold;
    const [goodRefused, badCaught] = [worse(goods, threshold), worse(bads, threshold)];
    return { ...rates, proposed, goodRefused, badCaught };
  });
}

/** Interpolates linearly; `values` may be unsorted. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!];
  return below === above ? below : below + (above - below) * (at - Math.floor(at));
}

function valuesOf(trials: readonly Trial[], score: Score): number[] {
  return trials.flatMap(({ after }) =>
    after === null || after[score] === null ? [] : [after[score]],
  );
}

function kindsOf(trials: readonly Trial[]): string[] {
  return [...new Set(trials.map(({ kind }) => kind))];
}

export const RATE_COLUMNS: Column<KindRates>[] = [
  ['batches', 'kind'],
  ['tried', 'batches'],
  ['accepted', 'accepted'],
  ['refused as a batch', 'refusedAsBatch'],
  ['refused for members', 'refusedForMembers'],
  ['unfit', 'unfit'],
  ['false refuse %', ({ good, wrong }) => (good ? wrong : null), percent],
  ['false accept %', ({ good, wrong }) => (good ? null : wrong), percent],
  ['corrections blamed', ({ blamed, corrections }) => `${blamed} of ${corrections}`],
];

export const DISTRIBUTION_COLUMNS: Column<Distribution>[] = [
  ['score', 'score'],
  ['batches', 'kind'],
  ['n', 'count'],
  ...QUANTILES.map((at, i): Column<Distribution> => {
    const name = at === 0 ? 'min' : at === 1 ? 'max' : `${100 * at} %`;
    return [name, ({ quantiles }) => quantiles[i]!, digits(3)];
  }),
];

export const PROPOSAL_COLUMNS: Column<Proposal>[] = [
  ['threshold', 'setting'],
  ['now', 'now', digits(3)],
  ['good refused %, now', 'goodRefusedNow', percent],
  ['bad caught %, now', 'badCaughtNow', percent],
  ['proposed', 'proposed', digits(3)],
  ['good refused %', (row) => (row.proposed === null ? null : row.goodRefused), percent],
  ['bad caught %', (row) => (row.proposed === null ? null : row.badCaught), percent],
];
