/**
 * A lineage with every kind of event, made by a tiny real model: refusals, supersessions,
 * retractions, halvings and undos.
 */
import { localPort, type LocalSteps } from '../../../operations/local-batch.ts';
import type { RebuildEngine } from '../../../operations/rebuild/rebuild-engines.ts';
import { editBatch } from '../../../pipelines/batch/edit-batch.ts';
import {
  factKeyOf,
  retractionId,
  type CorrectionRevision,
  type FactCorrection,
  type RetractionRevision,
} from '../../../schemas/correction.ts';
import type { Outcome } from '../../../schemas/outcome.ts';
import { DEFAULT_LINEAGE_SETTINGS, type LineageSettings } from '../../../schemas/settings.ts';
import type { Versions } from '../../../versions/versions.ts';

export const SOURCE = 'source';
export const TOPIC = `errata.${SOURCE}.corrections`;

/** Lenient thresholds: a random model learns its targets but harms everything else. */
export const LENIENT: LineageSettings = {
  ...DEFAULT_LINEAGE_SETTINGS,
  batch: { ...DEFAULT_LINEAGE_SETTINGS.batch, batchEditsMax: 4 },
  verdict: {
    requireEffective: false,
    generalisationMin: 0,
    localityMin: 0,
    retentionMin: 0,
    canaryRatioMax: 1e6,
    editNormMax: 1e6,
    retentionSample: 4,
  },
};

export const PARAMETERS = {
  stepsMax: 8,
  lossTarget: 0,
  contexts: 2,
  contextsPerStep: 1,
  learningRate: 0.1,
};

let offset = 0;

/** All revisions, in the order of their offsets. */
export const REVISIONS: (CorrectionRevision | RetractionRevision)[] = [];

function noted<Revision extends CorrectionRevision | RetractionRevision>(
  revision: Revision,
): Revision {
  REVISIONS.push(revision);
  return revision;
}

export function correctionOf(id: string, more: Partial<FactCorrection> = {}): CorrectionRevision {
  const subject = more.subject ?? `town ${id}`;
  const correction: FactCorrection = {
    id,
    lineage: SOURCE,
    subject,
    relation: null,
    prompt: `the old ${subject} is on`,
    target: 'river',
    previousAnswer: null,
    paraphrases: [`we saw ${subject} is on`],
    neighbourhood: ['the old hill is on'],
    source: 'test',
    issuedAt: 1_000 + offset,
    ...more,
  };
  return noted({
    kind: 'correction',
    factKey: factKeyOf(correction),
    position: { topic: TOPIC, partition: 0, offset: String(offset++) },
    correction,
  });
}

export function retracted(of: CorrectionRevision): RetractionRevision {
  const position = { topic: TOPIC, partition: 0, offset: String(offset++) };
  return noted({
    kind: 'retraction',
    factKey: of.factKey,
    position,
    id: retractionId(position),
    issuedAt: 1_000 + offset,
  });
}

const SPOILING = 'h';
const LONG = Array.from({ length: 400 }, () => 'river')
  .join(' ')
  .slice(0, 390);

/** Six versions; `outcomes` are those of all batches. */
export async function makeSource({ steps }: RebuildEngine, versions: Versions): Promise<Outcome[]> {
  const spoiling: LocalSteps = {
    ...steps,
    async runProbes(step) {
      const report = await steps.runProbes(step);
      return step.edits.some(({ correction }) => correction.id === SPOILING)
        ? { ...report, verdict: { pass: false, reasons: ['it spoils'], failing: [] } }
        : report;
    },
  };
  const workflow = { workflowId: `edit-batch/${SOURCE}/0`, runId: 'run' };
  const outcomes: Outcome[] = [];
  const batch = async (
    batchId: string,
    revisions: (CorrectionRevision | RetractionRevision)[],
    verdict = LENIENT.verdict,
    shardEditsMax = 30,
  ): Promise<void> => {
    const result = await editBatch(localPort(spoiling, versions, workflow), {
      lineage: SOURCE,
      batchId,
      revisions,
      settled: [],
      verdict,
      shardEditsMax,
      editAttemptsMax: LENIENT.failures.editAttemptsMax,
    });
    outcomes.push(...result.outcomes);
  };
  const [a, b, c] = [correctionOf('a'), correctionOf('b', { target: 'town' }), correctionOf('c')];
  await batch('000000-a', [a, b, correctionOf('long', { target: LONG }), c]);
  await batch('000001-b', [
    correctionOf('a2', { subject: 'town a', prompt: a.correction.prompt, target: 'berlin' }),
    retracted(b),
    correctionOf('d', { replayOf: 'd0' }),
  ]);
  // The batch has two shards and is halved twice, since one correction spoils every batch that
  // contains it.
  await batch(
    '000002-c',
    [correctionOf('e'), correctionOf('f'), correctionOf('g'), correctionOf(SPOILING)],
    LENIENT.verdict,
    2,
  );
  const request = {
    id: 'wrong',
    target: { kind: 'version' as const, version: 2 },
    reason: 'it was wrong',
    requestedBy: 'an operator',
    requestedAt: 5_000,
  };
  const plan = await steps.planUndo({ lineage: SOURCE, batchId: 'undo-wrong', request });
  const step = { lineage: SOURCE, batchId: 'undo-wrong', head: plan.head, steps: plan.steps! };
  const staged = await steps.stageUndo(step);
  const probes = await steps.probeUndo({ ...step, staged, settings: LENIENT.verdict });
  await steps.commitUndo({
    ...step,
    staged,
    probes,
    request,
    workflow: { workflowId: `undo/${SOURCE}/wrong`, runId: 'run' },
  });
  await batch('000003-d', [correctionOf('i'), correctionOf('j', { target: 'anna' })]);
  return outcomes;
}
