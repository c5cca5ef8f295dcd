/**
 * Measures the staged hook against HEAD and the base model, and judges it. A failed probe gives a
 * verdict, never an exception.
 */
import type { Probe, ProbeAnswer } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { FactCorrection } from '../../schemas/correction.ts';
import {
  removalsInForce,
  type CorrectionProbe,
  type ProbeReport,
  type Removal,
  type StagedUpdate,
} from '../../schemas/editing.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';
import { canonicalJson } from '../../versions/log/canonical-json.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import { ensureHook, hookIdOf, type PairsRow } from '../../versions/log/hook-pairs.ts';
import { type VersionLog } from '../../versions/log/version-log.ts';
import { sha256 } from '../../versions/log/object-names.ts';
import type { Versions } from '../../versions/versions.ts';
import type { ProbeCache } from './probe-cache.ts';
import type { ProbeStep } from '../../schemas/steps.ts';
import { currentHeartbeat } from '../heartbeat.ts';
import { aboutSubject, historyOfHead, remaining, stagedRows } from './step-rows.ts';
import {
  isEffective,
  scoresOf,
  tally,
  verdictOf,
  type Measured,
  type MeasuredCorrection,
} from './verdict.ts';

/** Answer tokens shown in the report. The engine decodes at least as many as the target has. */
const OWN_ANSWER_TOKENS = 4;
const PARAPHRASE_TOKENS = 3;
/** Number of latest earlier corrections per subject of the batch that are probed again. */
const SIBLINGS_MAX = 32;

export async function runProbes(
  engine: Engine,
  versions: Versions,
  cache: ProbeCache,
  step: ProbeStep,
): Promise<ProbeReport> {
  const log = versions.log(step.lineage);
  const history = await historyOfHead(log, step.head);
  const written = new Set(step.staged.rows);
  return await probeUpdate(engine, log, cache, {
    batchId: step.batchId,
    history,
    added: step.edits.map(({ correction }) => correction).filter(({ id }) => written.has(id)),
    removals: removalsInForce(step.removals, written),
    rows: stagedRows(history, step.removals, step.staged),
    layers: step.staged.layers,
    settings: step.settings,
  });
}

/** A staged update, of a batch or of an undo. */
interface ProbedUpdate {
  /** Seeds the sample of earlier corrections; the details are staged under it. */
  batchId: string;
  /** As of the HEAD that it was planned on. */
  history: History;
  added: readonly FactCorrection[];
  /** The removals in force. */
  removals: readonly Removal[];
  rows: readonly PairsRow[];
  layers: StagedUpdate['layers'];
  settings: VerdictSettings;
}

export async function probeUpdate(
  engine: Engine,
  log: VersionLog,
  cache: ProbeCache,
  { batchId, history, added, removals, rows, layers, settings }: ProbedUpdate,
): Promise<ProbeReport> {
  const startedAt = performance.now();
  const side = (of: readonly PairsRow[]) => sideOf(engine, log, cache, of);
  const [base, head, staged] = [side([]), side([...history.active.values()]), side(rows)];

  const inForce = remaining(history, removals);
  const siblings = siblingsOf(added, inForce);
  const others = inForce.filter((one) => !siblings.includes(one));
  const earlier = [...siblings, ...sampled(others, settings.retentionSample, batchId)].map(
    (correction) => ({ correction, probe: ownProbe(correction) }),
  );
  const alternatives = await alternativesOf(added, (probes) => base.ask(probes));
  const questions = added.map((correction, i) => questionsOf(correction, alternatives[i]));
  const probes = [
    ...questions.flatMap((one) => [one.own, ...one.paraphrases, ...one.neighbours]),
    ...earlier.map(({ probe }) => probe),
  ];
  const after = await staged.ask(probes);
  const before = await head.ask(probes);
  // Probed last, when answers with shut gates are known to be the base model's.
  const neighbours = questions.flatMap((one) => one.neighbours);
  const unedited = await base.ask(neighbours);

  const asked: Asked = { questions, earlier, before, after, unedited };
  const measuredAfter = measure(asked, after, await staged.canaryRatio(), layers);
  const headLayers = history.latest?.entry.layers ?? [];
  const measuredBefore = measure(asked, before, await head.canaryRatio(), headLayers);
  const corrections = questions.map((one) => measuredCorrection(one, siblings, asked));
  const details = questions.map((one) => detailOf(one, asked));
  return {
    before: scoresOf(measuredBefore),
    after: scoresOf(measuredAfter),
    verdict: verdictOf(corrections, measuredBefore, measuredAfter, settings),
    details: await log.blobs.stage(batchId, canonicalJson(details)),
    seconds: (performance.now() - startedAt) / 1_000,
  };
}

/** Probes one hook: the staged one, HEAD's, or without rows the base model. */
function sideOf(engine: Engine, log: VersionLog, cache: ProbeCache, rows: readonly PairsRow[]) {
  const heartbeat = currentHeartbeat();
  const hookId = hookIdOf(rows);
  const ensure = () => ensureHook(engine, log, rows);
  return {
    async ask(probes: readonly Probe[]): Promise<Answers> {
      const answers = await cache.probe(hookId, probes, heartbeat, ensure);
      return new Map(probes.map((probe, i) => [probe, answers[i]!]));
    },
    canaryRatio: () => cache.canaryRatio(hookId, heartbeat, ensure),
  };
}

type Side = ReturnType<typeof sideOf>;

/**
 * Earlier corrections about the same subjects are the likeliest to be harmed; with one map per
 * subject they are the only ones that can be.
 */
function siblingsOf(
  added: readonly FactCorrection[],
  inForce: readonly ActiveCorrection[],
): ActiveCorrection[] {
  const siblings = added.flatMap(({ subject }) =>
    aboutSubject(inForce, subject).slice(-SIBLINGS_MAX),
  );
  return [...new Set(siblings)];
}

type Answers = ReadonlyMap<Probe, ProbeAnswer>;

/** The probes, and the answers of the staged hook, HEAD and the base model. */
interface Asked {
  questions: readonly Questions[];
  earlier: readonly { correction: ActiveCorrection; probe: Probe }[];
  after: Answers;
  before: Answers;
  /** Answers to the neighbours only. */
  unedited: Answers;
}

interface Questions {
  correction: FactCorrection;
  own: Probe;
  paraphrases: Probe[];
  neighbours: Probe[];
}

function measure(
  { questions, earlier, unedited }: Asked,
  answers: Answers,
  canaryRatio: number,
  layers: StagedUpdate['layers'],
): Measured {
  const answerTo = (probe: Probe): ProbeAnswer => answers.get(probe)!;
  const own = questions.map((one) => answerTo(one.own));
  const paraphrases = questions.flatMap((one) => one.paraphrases.map(answerTo));
  const neighbours = questions.flatMap((one) => one.neighbours);
  return {
    efficacy: tally(own.map(({ targetIsArgmax }) => targetIsArgmax === true)),
    efficacyGreedy: tally(own.map(({ targetIsGreedy }) => targetIsGreedy === true)),
    generalisation: tally(paraphrases.map(holds)),
    locality: tally(neighbours.map((probe) => sameToken(answerTo(probe), unedited.get(probe)!))),
    retention: tally(earlier.map(({ probe }) => isEffective(answerTo(probe)))),
    canaryRatio,
    editNorm: largestNorm(layers),
  };
}

function measuredCorrection(
  { correction, own }: Questions,
  siblings: readonly ActiveCorrection[],
  { earlier, before, after }: Asked,
): MeasuredCorrection {
  const answer = after.get(own)!;
  const near = new Set(aboutSubject(siblings, correction.subject));
  const harmed = earlier.filter(
    ({ correction: one, probe }) =>
      near.has(one) && isEffective(before.get(probe)!) && !isEffective(after.get(probe)!),
  );
  return {
    id: correction.id,
    target: correction.target,
    answer: answer.answer,
    targetLogProbability: finite(answer.targetLogProbability),
    targetIsArgmax: answer.targetIsArgmax === true,
    targetIsGreedy: answer.targetIsGreedy === true,
    harmed: harmed.map(({ correction: { correctionId } }) => correctionId),
  };
}

function detailOf(
  { correction, own, paraphrases, neighbours }: Questions,
  { before, after, unedited }: Asked,
): CorrectionProbe {
  const answer = after.get(own)!;
  const answersOf = (probe: Probe) => ({
    prompt: probe.prompt,
    answerBefore: before.get(probe)!.answer,
    answerAfter: after.get(probe)!.answer,
  });
  return {
    id: correction.id,
    answerBefore: before.get(own)!.answer,
    answerAfter: answer.answer,
    targetLogProbability: finite(answer.targetLogProbability),
    effective: isEffective(answer),
    paraphrases: paraphrases.map((probe) => ({
      ...answersOf(probe),
      holds: holds(after.get(probe)!),
    })),
    neighbours: neighbours.map((probe) => ({
      ...answersOf(probe),
      unchanged: sameToken(after.get(probe)!, unedited.get(probe)!),
    })),
  };
}

function sameToken(a: ProbeAnswer, b: ProbeAnswer): boolean {
  return a.nextToken === b.nextToken;
}

/** Counts a norm that is not a number as the largest that JSON can write. */
function largestNorm(layers: readonly { editNorm: number }[]): number {
  const norms = layers.map(({ editNorm }) =>
    Number.isFinite(editNorm) ? editNorm : Number.MAX_VALUE,
  );
  return Math.max(0, ...norms);
}

function questionsOf(correction: FactCorrection, alternative: string | undefined): Questions {
  const { target } = correction;
  return {
    correction,
    own: ownProbe(correction),
    paraphrases: correction.paraphrases.map((prompt) => ({
      prompt,
      target,
      ...(alternative === undefined ? {} : { alternative }),
      greedyTokensMax: PARAPHRASE_TOKENS,
    })),
    neighbours: correction.neighbourhood.map((prompt) => ({ prompt, greedyTokensMax: 1 })),
  };
}

function ownProbe({ prompt, target }: { prompt: string; target: string }): Probe {
  return { prompt, target, greedyTokensMax: OWN_ANSWER_TOKENS };
}

/**
 * Returns the previous answer to each correction: the submitted one, or else the base model's, with
 * as many words as the target has.
 */
async function alternativesOf(
  corrections: readonly FactCorrection[],
  ask: Side['ask'],
): Promise<(string | undefined)[]> {
  // Uses the same probe as for HEAD, so that the base model is probed once.
  const probes = corrections.map((correction) =>
    isAlternative(correction.previousAnswer, correction.target) ? null : ownProbe(correction),
  );
  const answers = await ask(probes.filter((probe) => probe !== null));
  return corrections.map(({ previousAnswer, target }, i) => {
    const probe = probes[i]!;
    const answer = probe === null ? previousAnswer : firstWords(answers.get(probe)!.answer, target);
    return isAlternative(answer, target) ? answer.trim() : undefined;
  });
}

function isAlternative(answer: string | null, target: string): answer is string {
  return answer !== null && answer.trim() !== '' && answer.trim() !== target.trim();
}

export function firstWords(answer: string, target: string): string {
  return answer.trim().split(/\s+/u).slice(0, target.trim().split(/\s+/u).length).join(' ');
}

/** Tells whether the target is preferred. Without an alternative it must be the argmax. */
export function holds(answer: ProbeAnswer): boolean {
  if (answer.alternativeLogProbability === null) return answer.targetIsArgmax === true;
  return answer.targetLogProbability! > answer.alternativeLogProbability;
}

/** Counts a log-probability that is not a number as the least that JSON can write. */
function finite(logProbability: number | null): number {
  return logProbability !== null && Number.isFinite(logProbability)
    ? logProbability
    : -Number.MAX_VALUE;
}

/** Draws a sample that depends only on the batch, so that a repeated step probes the same. */
function sampled(
  corrections: readonly ActiveCorrection[],
  size: number,
  seed: string,
): ActiveCorrection[] {
  return corrections
    .map((correction) => ({ correction, lot: sha256(`${seed}\n${correction.correctionId}`) }))
    .sort((a, b) => (a.lot < b.lot ? -1 : 1))
    .slice(0, size)
    .map(({ correction }) => correction);
}
