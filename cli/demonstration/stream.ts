/**
 * The demonstration's stream. The corrections are in facts.ndjson, in the format of `errata submit
 * --file`; their sources say which values are real and which are invented.
 */
import { readFileSync } from 'node:fs';
import { factKeyOf, type FactCorrection } from '../../schemas/correction.ts';
import { readCorrections } from '../input/correction-input.ts';

export interface DemonstrationStream {
  corrections: FactCorrection[];
  /** Well formed, so the editor quarantines it; ingest does not refuse it. */
  tooLong: FactCorrection;
  malformed: Malformed[];
  /** Sent after the other corrections are committed. */
  superseding: { correction: FactCorrection; supersedes: string };
  /** Sent last. */
  retraction: { correction: FactCorrection; factKey: string };
}

/** A record that cannot be read as a correction. */
export interface Malformed {
  what: string;
  record:
    { kind: 'bytes'; key: string; value: Buffer } | { kind: 'unsound'; correction: FactCorrection };
}

/**
 * Returns the stream of one run; runs in a data folder are numbered from 1. Each run has its own
 * ids, since a known id is a duplicate. Its corrections supersede those of the run before.
 */
export function demonstrationStream(
  lineage: string,
  run: number,
  now: number,
): DemonstrationStream {
  const suffix = run === 1 ? '' : `-run-${run}`;
  const corrections = readFacts({ lineage, source: 'demonstration', now }).map((correction) => ({
    ...correction,
    id: `${correction.id}${suffix}`,
  }));
  const named = (id: string): FactCorrection => {
    const correction = corrections.find((one) => one.id === `${id}${suffix}`);
    if (correction === undefined) throw new Error(`The demonstration's facts lack ${id}.`);
    return correction;
  };
  const superseded = named('demo-oracle-headquarters');
  const retracted = named('demo-switzerland-language');
  const model = named('demo-turkey-capital');
  return {
    corrections,
    tooLong: {
      ...model,
      id: `demo-too-long${suffix}`,
      subject: 'Greenland',
      prompt: 'The official name of Greenland is',
      target: LONG_TARGET,
      previousAnswer: null,
      paraphrases: [],
      neighbourhood: [],
      source: 'demonstration; invented, and longer than a target may be',
    },
    malformed: malformedRecords(model, suffix),
    superseding: {
      correction: {
        ...superseded,
        id: `demo-oracle-moves-again${suffix}`,
        target: 'Nashville',
        previousAnswer: superseded.target,
        source: 'demonstration; real: a second move, announced in 2024',
        issuedAt: now + corrections.length,
      },
      supersedes: superseded.id,
    },
    retraction: { correction: retracted, factKey: factKeyOf(retracted) },
  };
}

const LONG_TARGET =
  'The Most Serene and Perfectly Independent Northern Republic of the Great Green Island and of ' +
  'All the Smaller Islands, Skerries, Icebergs and Inhabited Places That Lie around It, with the ' +
  'Capital City of Nuuk';

export function readFacts(defaults: {
  lineage: string;
  source: string;
  now: number;
}): FactCorrection[] {
  const text = readFileSync(new URL('facts.ndjson', import.meta.url), 'utf8');
  const { corrections, faults } = readCorrections(text, 'ndjson', defaults);
  if (faults.length === 0) return corrections.map(({ correction }) => correction);
  const list = faults.map(({ line, reason }) => `line ${line}: ${reason}`).join('; ');
  throw new Error(`The demonstration's facts have faults: ${list}`);
}

function malformedRecords(model: FactCorrection, suffix: string): Malformed[] {
  const bytes = (what: string, subject: string, value: Buffer): Malformed => ({
    what,
    record: { kind: 'bytes', key: `${subject}|The capital of {} is`, value },
  });
  const unsound = (what: string, id: string, changes: Partial<FactCorrection>): Malformed => ({
    what,
    record: { kind: 'unsound', correction: { ...model, id: `${id}${suffix}`, ...changes } },
  });
  return [
    bytes('bytes that are not an Avro record', 'Atlantis', Buffer.from('7b22737562', 'hex')),
    bytes('a record cut off in the middle', 'Lemuria', Buffer.from([0, 0, 0, 0, 1, 200, 200])),
    unsound('no subject', 'demo-no-subject', { subject: '', prompt: 'The capital of nowhere is' }),
    unsound('an empty target', 'demo-empty-target', { target: '' }),
    unsound('a subject that is not in the prompt', 'demo-absent-subject', { subject: 'Avalon' }),
  ];
}
