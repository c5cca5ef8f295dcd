/**
 * Measures the staged hook against HEAD and against the base model, and judges it. What fails is a
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
import { isEffective, scoresOf, tally, verdictOf, type Measured } from './verdict.ts';

/**
 * Decoded for the reader of the report; the engine decodes as far as the target reaches, whatever
 * is shown of it.
 */
const OWN_ANSWER_TOKENS = 4;
const PARAPHRASE_TOKENS = 3;
/** Earlier corrections about a batch's subjects that are asked again, the latest of each. */
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

/** What is staged, whoever staged it. */
export interface ProbedUpdate {
  /** Draws the sample of earlier corrections; the details are staged under it. */
  batchId: string;
  /** Up to the HEAD that it was planned on. */
  history: History;
  added: readonly FactCorrection[];
  /** Those in force. */
  removals: readonly Removal[];
  /** Of the staged hook. */
  rows: readonly PairsRow[];
  layers: StagedUpdate['layers'];
  settings: VerdictSettings;
}

export async function probeUpdate(
  engine: Engine,
  log: VersionLog,
  cache: ProbeCache,
  { batchId, history, added: corrections, removals, rows, layers, settings }: ProbedUpdate,
): Promise<ProbeReport> {
  const began = performance.now();
  const heartbeat = currentHeartbeat();

  const sideOf = (rows: readonly PairsRow[]) => {
    const hookId = hookIdOf(rows);
    const ensure = () => ensureHook(engine, log, rows);
    return {
      ask: (probes: readonly Probe[]) => cache.probe(hookId, probes, heartbeat, ensure),
      canaryRatio: () => cache.canaryRatio(hookId, heartbeat, ensure),
    };
  };
  const base = sideOf([]);
  const head = sideOf([...history.active.values()]);
  const staged = sideOf(rows);

  const inForce = remaining(history, removals);
  // Those about the same subjects are the likeliest to be harmed: with a map for every subject
  // nothing else can be.
  const siblings = [
    ...new Set(
      corrections.flatMap(({ subject }) => aboutSubject(inForce, subject).slice(-SIBLINGS_MAX)),
    ),
  ];
  const earlier = [
    ...siblings,
    ...sampled(
      inForce.filter((one) => !siblings.includes(one)),
      settings.retentionSample,
      batchId,
    ),
  ];

  const alternatives = await alternativesOf(corrections, base.ask);
  const questions = corrections.map((correction, i) => questionsOf(correction, alternatives[i]));
  const earlierProbes = earlier.map((one) => ownProbe(one));
  const probes = [
    ...questions.flatMap((one) => [one.own, ...one.paraphrases, ...one.neighbours]),
    ...earlierProbes,
  ];
  const after = answersTo(probes, await staged.ask(probes));
  const before = answersTo(probes, await head.ask(probes));
  // ProbeCache last: by then the answers of shut gates are known to be the base model's.
  const neighbours = questions.flatMap((one) => one.neighbours);
  const unedited = answersTo(neighbours, await base.ask(neighbours));
  const isUnchanged = (probe: Probe, answers: Map<Probe, ProbeAnswer>) =>
    answers.get(probe)!.nextToken === unedited.get(probe)!.nextToken;

  const details = questions.map(
    ({ correction, own, paraphrases, neighbours: near }): CorrectionProbe => {
      const answer = after.get(own)!;
      return {
        id: correction.id,
        answerBefore: before.get(own)!.answer,
        answerAfter: answer.answer,
        targetLogProbability: finite(answer.targetLogProbability),
        effective: isEffective(effects(answer)),
        paraphrases: paraphrases.map((probe) => ({
          prompt: probe.prompt,
          answerBefore: before.get(probe)!.answer,
          answerAfter: after.get(probe)!.answer,
          holds: holds(after.get(probe)!),
        })),
        neighbours: near.map((probe) => ({
          prompt: probe.prompt,
          answerBefore: before.get(probe)!.answer,
          answerAfter: after.get(probe)!.answer,
          unchanged: isUnchanged(probe, after),
        })),
      };
    },
  );

  const measure = (
    answers: Map<Probe, ProbeAnswer>,
    canaryRatio: number,
    editNorm: number,
  ): Measured => ({
    efficacy: tally(questions.map(({ own }) => answers.get(own)!.targetIsArgmax === true)),
    efficacyGreedy: tally(questions.map(({ own }) => answers.get(own)!.targetIsGreedy === true)),
    generalisation: tally(
      questions.flatMap(({ paraphrases }) =>
        paraphrases.map((probe) => holds(answers.get(probe)!)),
      ),
    ),
    locality: tally(neighbours.map((probe) => isUnchanged(probe, answers))),
    retention: tally(earlierProbes.map((probe) => isEffective(effects(answers.get(probe)!)))),
    canaryRatio,
    editNorm,
  });
  const largest = (layers: readonly { editNorm: number }[]) =>
    layers.reduce(
      (norm, { editNorm }) =>
        Math.max(norm, Number.isFinite(editNorm) ? editNorm : Number.MAX_VALUE),
      0,
    );
  const measuredAfter = measure(after, await staged.canaryRatio(), largest(layers));
  const measuredBefore = measure(
    before,
    await head.canaryRatio(),
    largest(history.latest?.entry.layers ?? []),
  );
  const measuredCorrections = questions.map(({ correction, own }) => {
    const answer = after.get(own)!;
    const harmed = aboutSubject(siblings, correction.subject).filter((one) => {
      const probe = earlierProbes[earlier.indexOf(one)]!;
      return isEffective(effects(before.get(probe)!)) && !isEffective(effects(after.get(probe)!));
    });
    return {
      id: correction.id,
      target: correction.target,
      answer: answer.answer,
      targetLogProbability: finite(answer.targetLogProbability),
      ...effects(answer),
      harmed: harmed.map(({ correctionId }) => correctionId),
    };
  });
  return {
    before: scoresOf(measuredBefore),
    after: scoresOf(measuredAfter),
    verdict: verdictOf(measuredCorrections, measuredBefore, measuredAfter, settings),
    details: await log.blobs.stage(batchId, canonicalJson(details)),
    seconds: (performance.now() - began) / 1_000,
  };
}

interface Questions {
  correction: FactCorrection;
  own: Probe;
  paraphrases: Probe[];
  neighbours: Probe[];
}

type Ask = (probes: readonly Probe[]) => Promise<ProbeAnswer[]>;

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
 * What the model said before, per correction: as submitted, else as the base model says it, in as
 * many words as the target has.
 */
async function alternativesOf(
  corrections: readonly FactCorrection[],
  ask: Ask,
): Promise<(string | undefined)[]> {
  const unknown = corrections.filter(
    ({ previousAnswer, target }) => !isAlternative(previousAnswer, target),
  );
  // The very probe that HEAD is asked, so that on the base model it is asked once.
  const answers = await ask(unknown.map((correction) => ownProbe(correction)));
  const byBase = new Map(
    unknown.map((correction, i) => [correction, firstWords(answers[i]!.answer, correction.target)]),
  );
  return corrections.map((correction) => {
    const answer = byBase.get(correction) ?? correction.previousAnswer;
    return isAlternative(answer, correction.target) ? answer.trim() : undefined;
  });
}

function isAlternative(answer: string | null, target: string): answer is string {
  return answer !== null && answer.trim() !== '' && answer.trim() !== target.trim();
}

function firstWords(answer: string, target: string): string {
  return answer.trim().split(/\s+/u).slice(0, target.trim().split(/\s+/u).length).join(' ');
}

/** Where there is no other answer to compare with, the target must be the model's own. */
function holds(answer: ProbeAnswer): boolean {
  if (answer.alternativeLogProbability === null) return answer.targetIsArgmax === true;
  return answer.targetLogProbability! > answer.alternativeLogProbability;
}

/**
 * A model that no longer gives numbers gives the target no chance, in a number that JSON can write.
 */
function finite(logProbability: number | null): number {
  return logProbability !== null && Number.isFinite(logProbability)
    ? logProbability
    : -Number.MAX_VALUE;
}

function effects({ targetIsArgmax, targetIsGreedy }: ProbeAnswer): {
  targetIsArgmax: boolean;
  targetIsGreedy: boolean;
} {
  return { targetIsArgmax: targetIsArgmax === true, targetIsGreedy: targetIsGreedy === true };
}

function answersTo(
  probes: readonly Probe[],
  answers: readonly ProbeAnswer[],
): Map<Probe, ProbeAnswer> {
  return new Map(probes.map((probe, i) => [probe, answers[i]!]));
}

/** A sample that depends on the batch and nothing else, so that a step run twice asks the same. */
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
