/** Judges whether what was measured may become HEAD: a pure function of numbers. */
import type { ProbeScores, Refusal, Verdict } from '../../schemas/editing.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';

/** How many probes of one kind succeeded. */
export interface Tally {
  good: number;
  of: number;
}

/** One side of the comparison: HEAD, or HEAD with the batch. */
export interface Measured {
  efficacy: Tally;
  efficacyGreedy: Tally;
  generalisation: Tally;
  locality: Tally;
  retention: Tally;
  canaryRatio: number;
  editNorm: number;
}

/** The measures of one correction of the batch. */
export interface MeasuredCorrection {
  id: string;
  targetIsArgmax: boolean;
  targetIsGreedy: boolean;
  /** Mean per token. */
  targetLogProbability: number;
  target: string;
  answer: string;
  /** Ids of earlier corrections about its subject that held before and no longer do. */
  harmed: string[];
}

/** Failures always tolerated when there are at least two probes: a share of few says little. */
const FAILURES_TOLERATED = 1;

/**
 * Judges what was measured. Corrections that do not take, or that harm an earlier one about their
 * subject, are `failing`; `reasons` are what only the batch as a whole can be blamed for, and where
 * the batch is one correction, it is failing for them.
 *
 * Locality, retention, canary and norm blame the batch only for what it made worse, so that a
 * lineage beyond a threshold can still be fixed by retractions.
 */
export function verdictOf(
  corrections: readonly MeasuredCorrection[],
  before: Measured,
  after: Measured,
  settings: VerdictSettings,
): Verdict {
  const failing = settings.requireEffective ? corrections.flatMap(failureOf) : [];
  const blamed = [
    ...shareFaults(before, after, settings),
    ...numberFaults(before, after, settings),
  ];
  const [only] = corrections;
  const [first] = blamed;
  if (corrections.length === 1 && failing.length === 0 && first !== undefined)
    failing.push({
      id: only!.id,
      code: first.code,
      reason: blamed.map(({ reason }) => reason).join('; '),
      measured: Object.assign({}, ...blamed.map(({ measured }) => measured)) as Fault['measured'],
    });
  return {
    pass: failing.length === 0 && blamed.length === 0,
    reasons: blamed.map(({ reason }) => reason),
    failing,
  };
}

export function isEffective(
  correction: Pick<MeasuredCorrection, 'targetIsArgmax' | 'targetIsGreedy'>,
): boolean {
  return correction.targetIsArgmax && correction.targetIsGreedy;
}

export function scoresOf(measured: Measured): ProbeScores {
  const { canaryRatio, editNorm, efficacy, efficacyGreedy, generalisation, locality, retention } =
    measured;
  return {
    efficacy: shareOf(efficacy),
    efficacyGreedy: shareOf(efficacyGreedy),
    generalisation: shareOf(generalisation),
    locality: shareOf(locality),
    retention: shareOf(retention),
    canaryRatio,
    editNorm,
  };
}

export function tally(results: readonly boolean[]): Tally {
  return { good: results.filter(Boolean).length, of: results.length };
}

interface Fault {
  code: Refusal['code'];
  reason: string;
  measured: Record<string, number>;
}

const SHARES = [
  {
    name: 'generalisation',
    code: 'does-not-generalise',
    what: 'paraphrases prefer the target',
    mayBeWorseBefore: false,
  },
  {
    name: 'locality',
    code: 'harms-neighbours',
    what: "neighbours keep the base model's answer",
    mayBeWorseBefore: true,
  },
  {
    name: 'retention',
    code: 'harms-earlier-corrections',
    what: 'earlier corrections hold',
    mayBeWorseBefore: true,
  },
] as const;

function shareFaults(before: Measured, after: Measured, settings: VerdictSettings): Fault[] {
  return SHARES.flatMap(({ name, code, what, mayBeWorseBefore }) => {
    const [then, now, min] = [before[name], after[name], settings[`${name}Min`]];
    // The small addend keeps 10 * (1 - 0.9) from being 0.9999999999999998.
    const allowed = Math.max(
      now.of > 1 ? FAILURES_TOLERATED : 0,
      Math.floor(now.of * (1 - min) + 1e-9),
    );
    const isWorse = !mayBeWorseBefore || now.good * then.of < then.good * now.of;
    if (now.of - now.good <= allowed || !isWorse) return [];
    const share = shareOf(now)!;
    const count = `${now.good} of ${now.of} ${what}`;
    const reason = `${name} ${rounded(share)}: ${count}, at least ${min} is asked`;
    return [{ code, reason, measured: { [name]: share, [`${name}Min`]: min } }];
  });
}

const NUMBERS = [
  {
    name: 'canaryRatio',
    code: 'harms-ordinary-text',
    what: "perplexity over the base model's on ordinary text",
  },
  { name: 'editNorm', code: 'norm-exceeded', what: 'edit norm' },
] as const;

function numberFaults(before: Measured, after: Measured, settings: VerdictSettings): Fault[] {
  return NUMBERS.flatMap(({ name, code, what }) => {
    const [then, now, max] = [before[name], after[name], settings[`${name}Max`]];
    if (now <= max || now <= then) return [];
    const reason = `${what} ${rounded(now)}, at most ${max} is allowed`;
    return [{ code, reason, measured: { [name]: now, [`${name}Max`]: max } }];
  });
}

/** Earlier corrections that a refusal names. */
const HARMED_NAMED_MAX = 5;

function failureOf(one: MeasuredCorrection): Refusal[] {
  const { id, harmed } = one;
  if (!isEffective(one)) return [notEffective(one)];
  if (harmed.length === 0) return [];
  const named = harmed.slice(0, HARMED_NAMED_MAX).join(', ');
  return [
    {
      id,
      code: 'harms-earlier-corrections',
      reason: `with it, earlier corrections about its subject no longer hold: ${named}`,
      measured: { harmed: harmed.length },
    },
  ];
}

function notEffective(one: MeasuredCorrection): Refusal {
  return {
    id: one.id,
    code: 'not-effective',
    reason: `the edited model answers "${one.answer.trim()}", "${one.target}" is asked`,
    measured: {
      answer: one.answer,
      targetLogProbability: one.targetLogProbability,
      targetIsArgmax: Number(one.targetIsArgmax),
      targetIsGreedy: Number(one.targetIsGreedy),
    },
  };
}

function shareOf({ good, of }: Tally): number | null {
  return of === 0 ? null : good / of;
}

function rounded(value: number): string {
  return String(Number(value.toPrecision(4)));
}
