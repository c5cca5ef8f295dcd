/**
 * Batches known to be good or bad, each made from the same records. A batch is bad because of its
 * corrections or because of what the editor does with them.
 */
import type { GateParameters, HyperParameterOverrides } from '../../../schemas/hyper-parameters.ts';
import { factKeyOf, type CorrectionRevision } from '../../../schemas/correction.ts';
import { renaming, replacing, type GatedEngine } from '../../wrapped-engine.ts';
import type { StudyRecord } from '../study-records.ts';

export interface TrialBatch {
  revisions: CorrectionRevision[];
  /** Ids of individual corrections that should be refused. */
  bad: string[];
}

export interface BatchKind {
  name: string;
  what: string;
  good: boolean;
  batch: (
    records: readonly StudyRecord[],
    garbled: (record: StudyRecord) => Promise<string>,
  ) => Promise<TrialBatch>;
  /** Changes the editor, but not the hook of `head`. */
  engine?: ((engine: GatedEngine, head: string | null) => GatedEngine) | undefined;
  /** Parameters with which the engine must be opened. */
  parameters?: HyperParameterOverrides;
}

const SCALE = 30;

/** Target searches without an anchor or early stop, so that steps overshoot. */
const GONE_WRONG: HyperParameterOverrides = {
  clamp: 50,
  learningRate: 20,
  klFactor: 0,
  weightDecay: 0,
  lossTarget: 0,
};
/** Opens on about a fifth of all tokens. */
const LEAKY_GATE: GateParameters = { kind: 'sequence', map: 'joint', floor: 0.84 };
const ALWAYS_GATE: GateParameters = { kind: 'always', map: 'joint', floor: 0 };

const asRecorded: BatchKind['batch'] = async (records) => ({
  revisions: records.map(({ revision }) => revision),
  bad: [],
});

/** Replaces the targets of the last `count` records. */
const garbledLast =
  (count: number): BatchKind['batch'] =>
  async (records, garbled) => {
    const first = Math.max(0, records.length - count);
    const revisions = records.map(({ revision }) => revision);
    for (let i = first; i < records.length; i++)
      revisions[i] = changed(records[i]!, 'garbled', { target: await garbled(records[i]!) });
    return { revisions, bad: revisions.slice(first).map(({ correction }) => correction.id) };
  };

const contradicting: BatchKind['batch'] = async (records) => {
  const revisions = records.slice(0, Math.ceil(records.length / 2)).flatMap((record) => {
    const { prompt, paraphrases, old: target, revision } = record;
    const { subject } = revision.correction;
    const wording = paraphrases.find((text) => text.includes(subject) && text !== prompt);
    if (wording === undefined) return [];
    const denied = { prompt: wording, target, previousAnswer: null, paraphrases: [] };
    // A real contradiction is not announced: neither correction lists the other's wording.
    return [changed(record, null, { paraphrases: [] }), changed(record, 'denied', denied)];
  });
  return { revisions, bad: revisions.map(({ correction }) => correction.id) };
};

/** Makes a kind that is bad because of what the editor does with good corrections. */
const badEditor = (name: string, what: string, engine: BatchKind['engine']): BatchKind => ({
  ...{ name, what, engine },
  good: false,
  batch: asRecorded,
});

export const BATCH_KINDS: readonly BatchKind[] = [
  { name: 'good', what: 'as recorded', good: true, batch: asRecorded },
  {
    name: 'all garbled',
    what: 'every target is a string of random tokens',
    good: false,
    batch: garbledLast(Infinity),
  },
  {
    name: 'one garbled',
    what: 'the last target is a string of random tokens, the others are as recorded',
    good: false,
    batch: garbledLast(1),
  },
  {
    name: 'contradicting',
    what: 'half of the corrections are denied by the other half in other words',
    good: false,
    batch: contradicting,
  },
  {
    name: 'parameters gone wrong',
    what: `searched with ${JSON.stringify(GONE_WRONG)}`,
    good: false,
    batch: asRecorded,
    parameters: GONE_WRONG,
  },
  badEditor('scaled', `wanted changes times ${SCALE}`, (engine, head) =>
    withChanges(renaming(engine, 'scaled', head), (change) => SCALE * change),
  ),
  badEditor('not finite', 'wanted changes that are no numbers', (engine, head) =>
    withChanges(renaming(engine, 'not-finite', head), () => Number.NaN),
  ),
  badEditor('gate always open', "the batch's hook acts on every token", (engine, head) =>
    renaming(engine, 'always', head, ALWAYS_GATE),
  ),
  badEditor('gate leaking', "the batch's hook acts on a fifth of ordinary tokens", (engine, head) =>
    renaming(engine, 'leaking', head, LEAKY_GATE),
  ),
];

/** Changes fields of the record's correction, and gives it a new id and fact. */
function changed(
  { revision }: StudyRecord,
  because: string | null,
  members: Partial<CorrectionRevision['correction']>,
): CorrectionRevision {
  const { correction } = revision;
  const other = {
    ...correction,
    ...members,
    id: because === null ? correction.id : `${correction.id}-${because}`,
  };
  return { ...revision, factKey: factKeyOf(other), correction: other };
}

function withChanges(engine: GatedEngine, change: (value: number) => number): GatedEngine {
  return replacing(engine, {
    async deriveUpdate(...request) {
      const { pairs, ...derived } = await engine.deriveUpdate(...request);
      const changes = pairs.changes.map((values) => values.map(change));
      return { ...derived, pairs: { ...pairs, changes } };
    },
  });
}
