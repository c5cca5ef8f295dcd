/**
 * What the demonstration sends, and what must become of it. The corrections are in facts.ndjson,
 * the form that `errata submit --file` reads; their sources say which values are real and which
 * invented.
 */
import { readFileSync } from 'node:fs';
import { factKeyOf, type FactCorrection } from '../../schemas/correction.ts';
import { readCorrections } from '../input/correction-input.ts';

export interface DemonstrationStream {
  corrections: FactCorrection[];
  /** The first is said to be the editor's fault, so it is quarantined, not refused. */
  tooLong: FactCorrection;
  malformed: Malformed[];
  /** Sent when the corrections are committed. */
  superseding: { correction: FactCorrection; supersedes: string };
  /** Sent last: id of the correction that is taken back. */
  retraction: { correction: FactCorrection; factKey: string };
}

/** A record that no correction can be read from, and how. */
export interface Malformed {
  what: string;
  record:
    { kind: 'bytes'; key: string; value: Buffer } | { kind: 'unsound'; correction: FactCorrection };
}

export const SUPERSEDED_ID = 'demo-oracle-headquarters';
export const RETRACTED_ID = 'demo-switzerland-language';

/**
 * The stream of the `run`-th run in a data folder (from 1). Ids of a further run differ, or
 * everything would be known already; its corrections supersede those of the run before.
 */
export function demonstrationStream(
  lineage: string,
  run: number,
  now: number,
): DemonstrationStream {
  const suffix = run === 1 ? '' : `-run-${run}`;
  const { corrections: read, faults } = readCorrections(
    readFileSync(new URL('facts.ndjson', import.meta.url), 'utf8'),
    'ndjson',
    { lineage, source: 'demonstration', now },
  );
  if (faults.length > 0)
    throw new Error(
      `The demonstration's facts have faults: ${faults.map(({ line, reason }) => `line ${line}: ${reason}`).join('; ')}`,
    );
  const corrections = read.map(({ correction }) => ({
    ...correction,
    id: `${correction.id}${suffix}`,
  }));
  const named = (id: string): FactCorrection => {
    const correction = corrections.find((one) => one.id === `${id}${suffix}`);
    if (correction === undefined) throw new Error(`The demonstration's facts lack ${id}.`);
    return correction;
  };
  const superseded = named(SUPERSEDED_ID);
  const retracted = named(RETRACTED_ID);
  const later = now + corrections.length;
  const model = named('demo-turkey-capital');
  return {
    corrections,
    tooLong: {
      ...model,
      id: `demo-too-long${suffix}`,
      subject: 'Greenland',
      prompt: 'The official name of Greenland is',
      target:
        'The Most Serene and Perfectly Independent Northern Republic of the Great Green Island and of All the Smaller Islands, Skerries, Icebergs and Inhabited Places That Lie around It, with the Capital City of Nuuk',
      previousAnswer: null,
      paraphrases: [],
      neighbourhood: [],
      source: 'demonstration; invented, and longer than a target may be',
    },
    malformed: [
      {
        what: 'bytes that are no Avro record',
        record: {
          kind: 'bytes',
          key: 'Atlantis|The capital of {} is',
          value: Buffer.from('7b22737562', 'hex'),
        },
      },
      {
        what: 'a record cut off in the middle',
        record: {
          kind: 'bytes',
          key: 'Lemuria|The capital of {} is',
          value: Buffer.from([0, 0, 0, 0, 1, 200, 200]),
        },
      },
      {
        what: 'no subject',
        record: {
          kind: 'unsound',
          correction: {
            ...model,
            id: `demo-no-subject${suffix}`,
            subject: '',
            prompt: 'The capital of nowhere is',
          },
        },
      },
      {
        what: 'an empty target',
        record: {
          kind: 'unsound',
          correction: { ...model, id: `demo-empty-target${suffix}`, target: '' },
        },
      },
      {
        what: 'a subject that the prompt lacks',
        record: {
          kind: 'unsound',
          correction: { ...model, id: `demo-absent-subject${suffix}`, subject: 'Avalon' },
        },
      },
    ],
    superseding: {
      correction: {
        ...superseded,
        id: `demo-oracle-moves-again${suffix}`,
        target: 'Nashville',
        previousAnswer: superseded.target,
        source: 'demonstration; real: a second move, announced in 2024',
        issuedAt: later,
      },
      supersedes: superseded.id,
    },
    retraction: { correction: retracted, factKey: factKeyOf(retracted) },
  };
}
