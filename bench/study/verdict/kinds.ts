/**
 * Batches that are known to be good or bad, each made from the same records. A batch is bad either
 * by its corrections or by what the editor does with them.
 */
import type { GateParameters, HyperParameterOverrides } from '../../../schemas/editing.ts';
import { factKeyOf, type CorrectionRevision } from '../../../schemas/correction.ts';
import { renaming, replacing, type GatedEngine } from '../../wrapped-engine.ts';
import type { StudyRecord } from '../study-records.ts';

export interface TrialBatch {
  revisions: CorrectionRevision[];
  /** Ids of single corrections that should be refused. */
  bad: string[];
}

export interface BatchKind {
  name: string;
  what: string;
  good: boolean;
  batch(
    records: readonly StudyRecord[],
    garbled: (record: StudyRecord) => Promise<string>,
  ): Promise<TrialBatch>;
  /** Changes the editor, but leaves the hook of `head` alone. */
  engine?(engine: GatedEngine, head: string | null): GatedEngine;
  /** Parameters that the engine must be opened with. */
  parameters?: HyperParameterOverrides;
}

const SCALE = 30;

/** Searches without an anchor or an early end, whose steps overshoot. */
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

export const BATCH_KINDS: readonly BatchKind[] = [
  { name: 'good', what: 'as recorded', good: true, batch: asRecorded },
  {
    name: 'all garbled',
    what: 'every target is a string of random tokens',
    good: false,
    batch: async (records, garbled) => {
      const revisions: CorrectionRevision[] = [];
      for (const record of records)
        revisions.push(changed(record, 'garbled', { target: await garbled(record) }));
      return { revisions, bad: revisions.map(({ correction }) => correction.id) };
    },
  },
  {
    name: 'one garbled',
    what: 'the last target is a string of random tokens, the others are as recorded',
    good: false,
    batch: async (records, garbled) => {
      const last = records.at(-1)!;
      const poison = changed(last, 'garbled', { target: await garbled(last) });
      return {
        revisions: [...records.slice(0, -1).map(({ revision }) => revision), poison],
        bad: [poison.correction.id],
      };
    },
  },
  {
    name: 'contradicting',
    what: 'half of the corrections are denied by the other half in other words',
    good: false,
    batch: async (records) => {
      const pairs = records.slice(0, Math.ceil(records.length / 2)).flatMap((record) => {
        const { subject } = record.revision.correction;
        const wording = record.paraphrases.find(
          (paraphrase) => paraphrase.includes(subject) && paraphrase !== record.prompt,
        );
        if (wording === undefined) return [];
        // A real contradiction is not announced: neither lists the other's wording as a paraphrase.
        return [
          changed(record, null, { paraphrases: [] }),
          changed(record, 'denied', {
            prompt: wording,
            target: record.old,
            previousAnswer: null,
            paraphrases: [],
          }),
        ];
      });
      return { revisions: pairs, bad: pairs.map(({ correction }) => correction.id) };
    },
  },
  {
    name: 'parameters gone wrong',
    what: `searched with ${JSON.stringify(GONE_WRONG)}`,
    good: false,
    batch: asRecorded,
    parameters: GONE_WRONG,
  },
  {
    name: 'scaled',
    what: `wanted changes times ${SCALE}`,
    good: false,
    batch: asRecorded,
    engine: (engine, head) =>
      withChanges(renaming(engine, 'scaled', head), (change) => SCALE * change),
  },
  {
    name: 'not finite',
    what: 'wanted changes that are no numbers',
    good: false,
    batch: asRecorded,
    engine: (engine, head) => withChanges(renaming(engine, 'not-finite', head), () => Number.NaN),
  },
  {
    name: 'gate always open',
    what: "the batch's hook acts on every token",
    good: false,
    batch: asRecorded,
    engine: (engine, head) => renaming(engine, 'always', head, ALWAYS_GATE),
  },
  {
    name: 'gate leaking',
    what: "the batch's hook acts on a fifth of ordinary tokens",
    good: false,
    batch: asRecorded,
    engine: (engine, head) => renaming(engine, 'leaking', head, LEAKY_GATE),
  },
];

/** Changes members of the record's correction, and gives it its own id and fact. */
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
