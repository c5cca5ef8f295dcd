/**
 * Tries batches of known kinds on one version. Each goes through the steps of an edit batch up to
 * its verdict under the default thresholds. None is committed, so all start from the same HEAD.
 */
import { createEditActivities, createLedgerActivities } from '../../../activities/index.ts';
import type { ProbeScores, TargetShard } from '../../../schemas/editing.ts';
import type { VerdictSettings } from '../../../schemas/settings.ts';
import { hookIdOf } from '../../../versions/log/hook-pairs.ts';
import type { Versions } from '../../../versions/versions.ts';
import { batchEnds, EditedStream, STUDY_LINEAGE } from '../../edited-stream.ts';
import { nameOf } from '../../kept-points.ts';
import { remembering, type GatedEngine } from '../../wrapped-engine.ts';
import { idsOf, type StudyRecord } from '../study-records.ts';
import type { Keeping } from '../study-run.ts';
import type { BatchKind } from './kinds.ts';

export interface Trial {
  kind: string;
  good: boolean;
  batch: number;
  /** `unfit`: refused by the plan or the editor before any measurement. */
  outcome: 'accepted' | 'refused' | 'unfit';
  corrections: number;
  /** Individual corrections that the verdict blames, and how many of them are bad. */
  blamed: number;
  blamedBad: number;
  /** Reasons for refusing the batch as a whole. */
  reasons: string[];
  before: ProbeScores | null;
  after: ProbeScores | null;
}

export interface TrialsQuestion {
  /** Records of the version on which batches are tried. */
  prepared: readonly StudyRecord[];
  records: readonly StudyRecord[];
  batchSize: number;
  settings: VerdictSettings;
  circumstances: Record<string, unknown>;
  /** The inputs that identify that version, which the first engine makes. */
  preparedIn: Record<string, unknown>;
}

/** Tries these kinds. The engine must have been opened with their parameters. */
export async function* tryBatches(
  engine: GatedEngine,
  kinds: readonly BatchKind[],
  question: TrialsQuestion,
  { points, edited }: Keeping,
): AsyncGenerator<Trial> {
  const { prepared, records, batchSize, settings, circumstances, preparedIn } = question;
  const { length: preparedCount } = prepared;
  const version = { study: 'verdict', prepared: idsOf(prepared), batchSize };
  const stream = new EditedStream(
    points.streamFolder({ ...version, circumstances: preparedIn }),
    engine,
    prepared.map(({ revision }) => revision),
    batchEnds(preparedCount, batchSize),
  );
  await stream.advanceTo(preparedCount, edited);
  const head = hookIdOf(await stream.rowsAt(preparedCount));
  const { versions } = stream;
  const workshop = { engine: remembering(engine, [null, head]), head, versions, settings };
  let tried = 0;
  for (let batch = 0; (batch + 1) * batchSize <= records.length; batch++) {
    const members = records.slice(batch * batchSize, (batch + 1) * batchSize);
    const shards = new Map<string, TargetShard>();
    for (const kind of kinds) {
      const measuredWith = {
        ...version,
        circumstances,
        preparedIn,
        kind: kind.name,
        what: kind.what,
        members: idsOf(members),
        settings: { ...settings },
      };
      yield await points.once(measuredWith, () =>
        tryBatch({ ...workshop, shards }, kind, batch, members),
      );
      edited(preparedCount + ++tried);
    }
  }
}

interface Workshop {
  engine: GatedEngine;
  head: string | null;
  versions: Versions;
  settings: VerdictSettings;
  /** Targets by correction. They do not depend on the kind, so each is searched once. */
  shards: Map<string, TargetShard>;
}

async function tryBatch(
  { engine, head, versions, settings, shards }: Workshop,
  kind: BatchKind,
  batch: number,
  members: readonly StudyRecord[],
): Promise<Trial> {
  const { revisions, bad } = await kind.batch(members, (record) => garbledTarget(engine, record));
  const batchId = `trial-${nameOf({ kind: kind.name, members: idsOf(members) }).slice(0, 16)}`;
  const about = { lineage: STUDY_LINEAGE, batchId };
  const plan = await createLedgerActivities({ versions }).planBatch({ ...about, revisions });
  const trial = { kind: kind.name, good: kind.good, batch, corrections: plan.edits.length };
  const blameless = { blamed: 0, blamedBad: 0, before: null, after: null };
  const unfit = (reason: string): Trial => {
    return { ...trial, ...blameless, outcome: 'unfit', reasons: [reason] };
  };
  if (plan.edits.length === 0) return unfit('the plan leaves nothing to edit');
  const step = { ...about, head: plan.head, edits: plan.edits, removals: plan.removals };
  const missing = plan.edits.filter(({ correction }) => !shards.has(correction.id));
  if (missing.length > 0) {
    const search = createEditActivities({ engine, versions });
    const shard = await search.computeTargets({ ...step, edits: missing });
    for (const { correction } of missing) shards.set(correction.id, shard);
  }
  const editor = kind.engine?.(engine, head) ?? engine;
  const activities = createEditActivities({ engine: editor, versions });
  const used = [...new Set(plan.edits.map(({ correction }) => shards.get(correction.id)!))];
  let staged;
  try {
    staged = await activities.stageUpdate({ ...step, shards: used });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return unfit(error.message);
  }
  if (staged.rows.length === 0) return unfit(staged.refused[0]?.reason ?? 'no target was found');
  const probes = await activities.runProbes({ ...step, staged, settings });
  const { pass, failing, reasons } = probes.verdict;
  return {
    ...trial,
    outcome: pass ? 'accepted' : 'refused',
    blamed: failing.length,
    blamedBad: failing.filter(({ id }) => bad.includes(id)).length,
    reasons,
    before: probes.before,
    after: probes.after,
  };
}

const GARBLED_TOKENS = 4;
const GARBLED_ATTEMPTS_MAX = 50;
/** High enough to make all tokens of the vocabulary about equally likely. */
const GARBLED_TEMPERATURE = 1_000;

/** Generates random tokens that the tokeniser can encode; the same record gives the same tokens. */
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
  throw new Error(`the model gave no usable random tokens in ${GARBLED_ATTEMPTS_MAX} attempts`);
}
