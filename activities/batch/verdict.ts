/** Whether what was measured may become HEAD: a pure function of numbers. */
import type { ProbeScores, Refusal, Verdict } from '../../schemas/editing.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';

/** How many of the probes of one kind came out well. */
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

/** What was measured on one correction of the batch. */
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

/**
 * Of two probes or more, so many may fail whatever the threshold: a share of a few probes says
 * little.
 */
const FAILURES_FORGIVEN = 1;

/**
 * Corrections that do not take by themselves, or take another's place that was to stay, are
 * `failing`; what only the batch as a whole can be blamed for is in `reasons`, and where the batch
 * is one correction, that one is failing for it.
 *
 * Locality, retention, canary and norm blame the batch only for what it made worse: a lineage that
 * is beyond a threshold already can still be mended by retractions.
 */
export function verdictOf(
  corrections: readonly MeasuredCorrection[],
  before: Measured,
  after: Measured,
  settings: VerdictSettings,
): Verdict {
  const failing: Refusal[] = settings.requireEffective
    ? corrections.flatMap((one) =>
        isEffective(one)
          ? one.harmed.length === 0
            ? []
            : [harmsSiblings(one)]
          : [notEffective(one)],
      )
    : [];
  const blamed = [
    ...shareFault(
      'does-not-generalise',
      'generalisation',
      'paraphrases prefer the target',
      after.generalisation,
      null,
      settings.generalisationMin,
    ),
    ...shareFault(
      'harms-neighbours',
      'locality',
      "neighbours keep the base model's answer",
      after.locality,
      before.locality,
      settings.localityMin,
    ),
    ...shareFault(
      'harms-earlier-corrections',
      'retention',
      'earlier corrections hold',
      after.retention,
      before.retention,
      settings.retentionMin,
    ),
    ...numberFault(
      'harms-ordinary-text',
      'canaryRatio',
      "perplexity over the base model's on ordinary text",
      after.canaryRatio,
      before.canaryRatio,
      settings.canaryRatioMax,
    ),
    ...numberFault(
      'norm-exceeded',
      'editNorm',
      'edit norm',
      after.editNorm,
      before.editNorm,
      settings.editNormMax,
    ),
  ];
  const [only] = corrections;
  const [first] = blamed;
  if (
    corrections.length === 1 &&
    failing.length === 0 &&
    only !== undefined &&
    first !== undefined
  ) {
    const measured: Refusal['measured'] = Object.fromEntries(
      blamed.flatMap((fault) => Object.entries(fault.measured)),
    );
    failing.push({
      id: only.id,
      code: first.code,
      reason: blamed.map((fault) => fault.reason).join('; '),
      measured,
    });
  }
  return {
    pass: failing.length === 0 && blamed.length === 0,
    reasons: blamed.map((fault) => fault.reason),
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

function shareFault(
  code: Refusal['code'],
  name: string,
  words: string,
  after: Tally,
  before: Tally | null,
  min: number,
): Fault[] {
  const failures = after.of - after.good;
  // The small addend keeps 10 * (1 - 0.9) from being 0.9999999999999998.
  const allowed = Math.max(
    after.of > 1 ? FAILURES_FORGIVEN : 0,
    Math.floor(after.of * (1 - min) + 1e-9),
  );
  const worse = before === null || after.good * before.of < before.good * after.of;
  if (failures <= allowed || !worse) return [];
  const share = shareOf(after)!;
  return [
    {
      code,
      reason: `${name} ${rounded(share)}: ${after.good} of ${after.of} ${words}, at least ${min} is asked`,
      measured: { [name]: share, [`${name}Min`]: min },
    },
  ];
}

function numberFault(
  code: Refusal['code'],
  name: string,
  words: string,
  after: number,
  before: number,
  max: number,
): Fault[] {
  if (after <= max || after <= before) return [];
  return [
    {
      code,
      reason: `${words} ${rounded(after)}, at most ${max} is allowed`,
      measured: { [name]: after, [`${name}Max`]: max },
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

function harmsSiblings({ id, harmed }: MeasuredCorrection): Refusal {
  return {
    id,
    code: 'harms-earlier-corrections',
    reason: `with it, what was corrected about its subject before no longer holds: ${harmed.slice(0, HARMED_NAMED_MAX).join(', ')}`,
    measured: { harmed: harmed.length },
  };
}

const HARMED_NAMED_MAX = 5;

function shareOf({ good, of }: Tally): number | null {
  return of === 0 ? null : good / of;
}

function rounded(value: number): string {
  return String(Number(value.toPrecision(4)));
}
