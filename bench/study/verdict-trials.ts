/**
 * Batches of known kinds tried on one version: each goes through the steps of an edit batch up to
 * its verdict under the default thresholds, and none is committed, so that all stand before the
 * same HEAD.
 */
import path from 'node:path';
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import type { ProbeScores, TargetShard } from '../../schemas/editing.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';
import { hookIdOf } from '../../versions/log/hook-pairs.ts';
import { EditedStream, STUDY_LINEAGE, batchEnds } from './edited-stream.ts';
import { remembering, type GatedEngine } from './gated-engine.ts';
import { nameOf, type KeptPoints } from './kept-points.ts';
import type { BatchKind } from './verdict-kinds.ts';
import type { StudyRecord } from './study-records.ts';

export interface Trial {
  kind: string;
  good: boolean;
  batch: number;
  /** `unfit`: refused by the editor or the plan before anything could be measured. */
  outcome: 'accepted' | 'refused' | 'unfit';
  corrections: number;
  /**
   * Corrections that the verdict blames by themselves, and of these the bad ones; where a batch is
   * bad as a whole, none is.
   */
  blamed: number;
  blamedBad: number;
  /** What the batch as a whole is blamed for. */
  reasons: string[];
  before: ProbeScores | null;
  after: ProbeScores | null;
}

export interface TrialsQuestion {
  /** The version's, then those of the trials. */
  prepared: readonly StudyRecord[];
  records: readonly StudyRecord[];
  batchSize: number;
  settings: VerdictSettings;
  circumstances: Record<string, unknown>;
  /** Of the version that the batches are tried on; the first engine to come makes it. */
  preparedIn: Record<string, unknown>;
}

export interface TrialsKeeping {
  folder: string;
  points: KeptPoints;
  prepared: (corrections: number) => void;
  tried(trial: Trial): Promise<void> | void;
}

/** Tries the kinds that the engine is for: it must have been opened with the kinds' parameters. */
export async function tryBatches(
  engine: GatedEngine,
  kinds: readonly BatchKind[],
  question: TrialsQuestion,
  keeping: TrialsKeeping,
): Promise<Trial[]> {
  const { prepared, records, batchSize, settings, circumstances, preparedIn } = question;
  const version = {
    study: 'verdict',
    prepared: prepared.map(({ revision }) => revision.correction.id),
    batchSize,
    circumstances: preparedIn,
  };
  const about = { ...version, circumstances, preparedIn };
  const stream = await EditedStream.open(
    path.join(keeping.folder, 'streams', nameOf(version).slice(0, 16)),
    engine,
    prepared.map(({ revision }) => revision),
    batchEnds(prepared.length, batchSize),
  );
  await stream.advanceTo(prepared.length, keeping.prepared);
  const head = hookIdOf(await stream.rowsAt(prepared.length));
  const patient = remembering(engine, [null, head]);
  const ledger = createLedgerActivities({ versions: stream.versions });

  const trials: Trial[] = [];
  for (let begin = 0, batch = 0; begin + batchSize <= records.length; begin += batchSize, batch++) {
    const members = records.slice(begin, begin + batchSize);
    const shards = new Map<string, TargetShard>();
    for (const kind of kinds) {
      const measuredWith = {
        ...about,
        kind: kind.name,
        what: kind.what,
        members: members.map(({ revision }) => revision.correction.id),
        settings: { ...settings },
      };
      const { answer } = await keeping.points.once(measuredWith, () =>
        tryBatch(kind, batch, members),
      );
      trials.push(answer);
      await keeping.tried(answer);
    }

    async function tryBatch(
      kind: BatchKind,
      number: number,
      of: readonly StudyRecord[],
    ): Promise<Trial> {
      const { revisions, bad } = await kind.batch(of, (record) => garbledTarget(patient, record));
      const batchId = `trial-${nameOf({ kind: kind.name, members: of.map(({ revision }) => revision.correction.id) }).slice(0, 16)}`;
      const plan = await ledger.planBatch({ lineage: STUDY_LINEAGE, batchId, revisions });
      const base = {
        kind: kind.name,
        good: kind.good,
        batch: number,
        corrections: plan.edits.length,
      };
      const unfit = (reason: string): Trial => ({
        ...base,
        outcome: 'unfit',
        blamed: 0,
        blamedBad: 0,
        reasons: [reason],
        before: null,
        after: null,
      });
      if (plan.edits.length === 0) return unfit('the plan leaves nothing to edit');
      const step = {
        lineage: STUDY_LINEAGE,
        batchId,
        head: plan.head,
        edits: plan.edits,
        removals: plan.removals,
      };
      // Targets do not depend on what is done with them afterwards, so each correction's is
      // searched once for all kinds.
      const search = createEditActivities({ engine: patient, versions: stream.versions });
      const missing = plan.edits.filter(({ correction }) => !shards.has(correction.id));
      if (missing.length > 0) {
        const shard = await search.computeTargets({ ...step, edits: missing });
        for (const { correction } of missing) shards.set(correction.id, shard);
      }
      const activities = createEditActivities({
        engine: kind.engine?.(patient, head) ?? patient,
        versions: stream.versions,
      });
      const used = [...new Set(plan.edits.map(({ correction }) => shards.get(correction.id)!))];
      let staged;
      try {
        staged = await activities.stageUpdate({ ...step, shards: used });
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        return unfit(error.message);
      }
      if (staged.rows.length === 0)
        return unfit(staged.refused[0]?.reason ?? 'no target was found');
      const probes = await activities.runProbes({ ...step, staged, settings });
      const { pass, failing, reasons } = probes.verdict;
      return {
        ...base,
        outcome: pass ? 'accepted' : 'refused',
        blamed: failing.length,
        blamedBad: failing.filter(({ id }) => bad.includes(id)).length,
        reasons,
        before: probes.before,
        after: probes.after,
      };
    }
  }
  return trials;
}

const GARBLED_TOKENS = 4;
const GARBLED_ATTEMPTS_MAX = 50;
/** High enough that every token of the vocabulary is about as likely. */
const GARBLED_TEMPERATURE = 1_000;

/** A string of random tokens that the tokeniser can take back; the same for the same record. */
async function garbledTarget(engine: GatedEngine, { index, prompt }: StudyRecord): Promise<string> {
  for (let attempt = 0; attempt < GARBLED_ATTEMPTS_MAX; attempt++) {
    const { text } = await engine.generate(null, prompt, {
      tokensMax: GARBLED_TOKENS,
      temperature: GARBLED_TEMPERATURE,
      seed: 1_000 * index + attempt,
    });
    const target = text.trim();
    if (target.length >= GARBLED_TOKENS && !/[\uFFFD\p{C}]/u.test(target)) return target;
  }
  throw new Error(`the model gave no string of random tokens in ${GARBLED_ATTEMPTS_MAX} attempts`);
}
