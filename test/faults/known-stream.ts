/**
 * A stream of records from a seed: corrections, later and earlier ones of the same facts, repeats,
 * contradictions, retractions, and what no codec can read.
 */
import { recordCodec } from '../../schemas/records/avro.ts';
import { factKeyOf, type FactCorrection } from '../../schemas/correction.ts';

export type StreamKind =
  | 'new fact'
  | 'later revision'
  | 'earlier revision'
  | 'sent again'
  | 'contradiction'
  | 'retraction'
  | 'retraction of nothing'
  | 'unlearnable'
  | 'malformed';

export interface StreamRecord {
  kind: StreamKind;
  key: string | null;
  value: Buffer | null;
  /** Kafka's timestamp of it: the time of issue of a retraction. */
  timestamp: number;
}

/** How often each kind comes, in proportion. */
const WEIGHTS: Record<StreamKind, number> = {
  'new fact': 40,
  'later revision': 15,
  'earlier revision': 6,
  'sent again': 11,
  contradiction: 4,
  retraction: 9,
  'retraction of nothing': 2,
  unlearnable: 4,
  malformed: 9,
};

/** In words and letters that the tiny model's tokeniser knows. */
const RELATIONS = ['the old book of {}', 'on the town of {}', 'we saw {}'];
const TARGETS = ['town', 'mother', 'book', 'tongue', 'speaks', 'play'];
const ONSETS = ['b', 'd', 'f', 'g', 'h', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v', 'w'];
const VOWELS = ['a', 'e', 'i', 'o', 'u'];
const CODAS = ['l', 'm', 'n', 'r', 's', 'k'];
/** Beyond `targetTokensMax`. */
const UNLEARNABLE_TARGET = 'town mother book tongue speaks play town mother book';
const FIRST_ISSUED_AT = 1_750_000_000_000;
const STEP_MS = 1_000;
/**
 * A producer with a partitioner of its own: the record's key is not the fact's, so its partition is
 * another.
 */
const OTHER_KEY_SHARE = 0.08;

export function knownStream(lineage: string, count: number, random: () => number): StreamRecord[] {
  const codec = recordCodec('fact-correction');
  const records: StreamRecord[] = [];
  const latest: FactCorrection[] = [];
  const subjects = new Set<string>();
  let now = FIRST_ISSUED_AT;
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;

  const newSubject = (): string => {
    for (;;) {
      const syllable = () => pick(ONSETS) + pick(VOWELS);
      const subject = `${syllable()}${syllable()}${syllable()}${pick(CODAS)}`;
      if (!subjects.has(subject)) {
        subjects.add(subject);
        return subject;
      }
    }
  };
  const correctionOf = (
    subject: string,
    relation: string,
    target: string,
    issuedAt: number,
  ): FactCorrection => {
    const prompt = relation.replace('{}', subject);
    return {
      id: `c${records.length}-${subject}`,
      lineage,
      subject,
      relation,
      prompt,
      target,
      previousAnswer: null,
      paraphrases: [`and ${prompt}`],
      neighbourhood: ['his book is in', 'the old tom is on'],
      source: 'fault run',
      issuedAt,
    };
  };
  const push = (kind: StreamKind, correction: FactCorrection): void => {
    const key = random() < OTHER_KEY_SHARE ? `elsewhere-${records.length}` : factKeyOf(correction);
    records.push({ kind, key, value: codec.encode(correction), timestamp: now });
  };
  const other = (target: string): string => pick(TARGETS.filter((one) => one !== target));

  while (records.length < count) {
    now += STEP_MS;
    const kind = latest.length < 3 ? 'new fact' : weighted(WEIGHTS, random);
    switch (kind) {
      case 'new fact': {
        const known = latest.length > 5 && random() < 0.2 ? pick(latest) : null;
        const relation = pick(RELATIONS.filter((one) => one !== known?.relation));
        const subject = known?.subject ?? newSubject();
        if (latest.some((one) => one.subject === subject && one.relation === relation)) break;
        const correction = correctionOf(subject, relation, pick(TARGETS), now);
        latest.push(correction);
        push(kind, correction);
        break;
      }
      case 'later revision': {
        const at = Math.floor(random() * latest.length);
        const before = latest[at]!;
        latest[at] = correctionOf(before.subject, before.relation!, other(before.target), now);
        push(kind, latest[at]);
        break;
      }
      case 'earlier revision': {
        const before = pick(latest);
        // Between two steps of the clock, so that it is nobody's equal in time.
        push(
          kind,
          correctionOf(
            before.subject,
            before.relation!,
            other(before.target),
            before.issuedAt - 1 - (records.length % (STEP_MS - 2)),
          ),
        );
        break;
      }
      case 'sent again': {
        const earlier = records.filter(
          (record) => record.value !== null && record.kind !== 'malformed',
        );
        records.push({ ...pick(earlier), kind });
        break;
      }
      case 'contradiction': {
        const before = pick(latest);
        const target = other(before.target);
        push(kind, correctionOf(before.subject, before.relation!, target, now));
        push(kind, correctionOf(before.subject, before.relation!, other(target), now));
        break;
      }
      case 'retraction':
        records.push({ kind, key: factKeyOf(pick(latest)), value: null, timestamp: now });
        break;
      case 'retraction of nothing':
        records.push({
          kind,
          key: `${newSubject()}|never said of {}`,
          value: null,
          timestamp: now,
        });
        break;
      case 'unlearnable': {
        const correction = correctionOf(newSubject(), pick(RELATIONS), UNLEARNABLE_TARGET, now);
        push(kind, correction);
        break;
      }
      case 'malformed':
        records.push({
          kind,
          timestamp: now,
          ...malformed(correctionOf(newSubject(), pick(RELATIONS), pick(TARGETS), now), random),
        });
        break;
    }
  }
  return records.slice(0, count);
}

function malformed(
  correction: FactCorrection,
  random: () => number,
): { key: string | null; value: Buffer | null } {
  const codec = recordCodec('fact-correction');
  const key = factKeyOf(correction);
  const whole = codec.encode(correction);
  const forms: { key: string | null; value: Buffer | null }[] = [
    { key, value: Buffer.from(JSON.stringify(correction)) },
    { key, value: whole.subarray(0, whole.length - 3) },
    { key, value: Buffer.concat([whole, Buffer.from('more')]) },
    { key, value: Buffer.alloc(0) },
    { key, value: codec.encode({ ...correction, lineage: 'another' }) },
    { key, value: codec.encode({ ...correction, target: ' ' }) },
    { key, value: codec.encode({ ...correction, prompt: 'the old town' }) },
    { key: null, value: null },
    { key, value: Buffer.alloc(70_000, 1) },
  ];
  return forms[Math.floor(random() * forms.length)]!;
}

/** One of the names, each as often as its weight says. */
export function weighted<Name extends string>(
  weights: Readonly<Record<Name, number>>,
  random: () => number,
): Name {
  const names = Object.keys(weights) as Name[];
  let lot = random() * names.reduce((sum, name) => sum + weights[name], 0);
  for (const name of names) {
    lot -= weights[name];
    if (lot < 0) return name;
  }
  return names.at(-1)!;
}
