/** Decides from numbers alone whether a measured update may become HEAD. */
import type { ProbeScores, Refusal, Verdict } from '../../schemas/editing.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';

/** Number of successful probes of one kind. */
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
 * Judges the measurements. Corrections that have no effect, or that harm an earlier one about their
 * subject, are `failing`. `reasons` are the faults of the batch as a whole; a batch of one
 * correction fails for them itself.
 *
 * Locality, retention, canary and norm count against the batch only if it made them worse, so
 * retractions can still fix a lineage beyond a threshold.
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
  const reasons = blamed.map(({ reason }) => reason);
  const [only] = corrections;
  const [first] = blamed;
  if (corrections.length === 1 && failing.length === 0 && first !== undefined) {
    const measured = Object.fromEntries(blamed.flatMap((one) => Object.entries(one.measured)));
    failing.push({ id: only!.id, code: first.code, reason: reasons.join('; '), measured });
  }
  return { pass: failing.length === 0 && blamed.length === 0, reasons, failing };
}

export function isEffective({
  targetIsArgmax,
  targetIsGreedy,
}: {
  targetIsArgmax: boolean | null;
  targetIsGreedy: boolean | null;
}): boolean {
  return targetIsArgmax === true && targetIsGreedy === true;
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
  ['generalisation', 'does-not-generalise', 'paraphrases prefer the target'],
  ['locality', 'harms-neighbours', "neighbours keep the base model's answer"],
  ['retention', 'harms-earlier-corrections', 'earlier corrections hold'],
] as const;

function shareFaults(before: Measured, after: Measured, settings: VerdictSettings): Fault[] {
  return SHARES.flatMap(([name, code, what]) => {
    const [then, now, min] = [before[name], after[name], settings[`${name}Min`]];
    // The small addend prevents 10 * (1 - 0.9) from being 0.9999999999999998.
    const allowed = Math.max(
      now.of > 1 ? FAILURES_TOLERATED : 0,
      Math.floor(now.of * (1 - min) + 1e-9),
    );
    const isWorse = name === 'generalisation' || now.good * then.of < then.good * now.of;
    if (now.of - now.good <= allowed || !isWorse) return [];
    const share = shareOf(now)!;
    const count = `${now.good} of ${now.of} ${what}`;
    const reason = `${name} ${rounded(share)}: ${count}, at least ${min} is asked`;
    return [{ code, reason, measured: { [name]: share, [`${name}Min`]: min } }];
  });
}

const NUMBERS = [
  ['canaryRatio', 'harms-ordinary-text', "perplexity over the base model's on ordinary text"],
  ['editNorm', 'norm-exceeded', 'edit norm'],
] as const;

function numberFaults(before: Measured, after: Measured, settings: VerdictSettings): Fault[] {
  return NUMBERS.flatMap(([name, code, what]) => {
    const [then, now, max] = [before[name], after[name], settings[`${name}Max`]];
    if (now <= max || now <= then) return [];
    const reason = `${what} ${rounded(now)}, at most ${max} is allowed`;
    return [{ code, reason, measured: { [name]: now, [`${name}Max`]: max } }];
  });
}

const HARMED_NAMED_MAX = 5;

function failureOf(one: MeasuredCorrection): Refusal[] {
  const { id, harmed, answer, target, targetLogProbability } = one;
  if (!isEffective(one)) {
    const reason = `the edited model answers "${answer.trim()}", "${target}" is asked`;
    const [targetIsArgmax, targetIsGreedy] = [+one.targetIsArgmax, +one.targetIsGreedy];
    const measured = { answer, targetLogProbability, targetIsArgmax, targetIsGreedy };
    return [{ id, code: 'not-effective', reason, measured }];
  }
  if (harmed.length === 0) return [];
  const named = harmed.slice(0, HARMED_NAMED_MAX).join(', ');
  const reason = `with it, earlier corrections about its subject no longer hold: ${named}`;
  return [{ id, code: 'harms-earlier-corrections', reason, measured: { harmed: harmed.length } }];
}

function shareOf({ good, of }: Tally): number | null {
  return of === 0 ? null : good / of;
}

function rounded(value: number): string {
  return String(Number(value.toPrecision(4)));
}
