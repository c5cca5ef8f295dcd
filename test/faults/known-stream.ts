/**
 * A seeded stream of records: corrections, later and earlier revisions of their facts, repetitions,
 * contradictions, retractions, and malformed records.
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
  /** Kafka's timestamp: the time of issue of a retraction. */
  timestamp: number;
}

/** Relative frequencies. */
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

/** Words and letters known to the tiny model's tokeniser. */
const RELATIONS = ['the old book of {}', 'on the town of {}', 'we saw {}'];
const TARGETS = ['town', 'mother', 'book', 'tongue', 'speaks', 'play'];
const ONSETS = ['b', 'd', 'f', 'g', 'h', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v', 'w'];
const VOWELS = ['a', 'e', 'i', 'o', 'u'];
const CODAS = ['l', 'm', 'n', 'r', 's', 'k'];
/** Longer than `targetTokensMax`. */
const UNLEARNABLE_TARGET = 'town mother book tongue speaks play town mother book';
const FIRST_ISSUED_AT = 1_750_000_000_000;
const STEP_MS = 1_000;
/** Share of records whose key is not the fact's key, as from a producer's own partitioner. */
const OTHER_KEY_SHARE = 0.08;

/** Makes `count` records, the same ones for the same seed. */
export function knownStream(lineage: string, count: number, random: () => number): StreamRecord[] {
  const stream = new KnownStream(lineage, random);
  while (stream.records.length < count) stream.add();
  return stream.records.slice(0, count);
}

class KnownStream {
  readonly records: StreamRecord[] = [];
  readonly #lineage: string;
  readonly #random: () => number;
  readonly #latest: FactCorrection[] = [];
  readonly #subjects = new Set<string>();
  #now = FIRST_ISSUED_AT;

  constructor(lineage: string, random: () => number) {
    this.#lineage = lineage;
    this.#random = random;
  }

  /** Adds one record, two for a contradiction, or none if a drawn fact is already known. */
  add(): void {
    this.#now += STEP_MS;
    const kind = this.#latest.length < 3 ? 'new fact' : weighted(WEIGHTS, this.#random);
    switch (kind) {
      case 'new fact':
        return this.#addFact();
      case 'later revision': {
        const at = Math.floor(this.#random() * this.#latest.length);
        this.#latest[at] = this.#revision(this.#latest[at]!);
        return this.#push(kind, this.#latest[at]);
      }
      case 'earlier revision': {
        const before = this.#pick(this.#latest);
        // The time lies between two clock steps, so that no other correction shares it.
        const issuedAt = before.issuedAt - 1 - (this.records.length % (STEP_MS - 2));
        return this.#push(kind, { ...this.#revision(before), issuedAt });
      }
      case 'sent again': {
        const sendable = this.records.filter(
          (record) => record.value !== null && record.kind !== 'malformed',
        );
        this.records.push({ ...this.#pick(sendable), kind });
        return;
      }
      case 'contradiction': {
        const first = this.#revision(this.#pick(this.#latest));
        this.#push(kind, first);
        return this.#push(kind, this.#revision(first));
      }
      case 'retraction':
        return this.#retract(kind, factKeyOf(this.#pick(this.#latest)));
      case 'retraction of nothing':
        return this.#retract(kind, `${this.#newSubject()}|never submitted {}`);
      case 'unlearnable':
        return this.#push(
          kind,
          this.#correction(this.#newSubject(), this.#pick(RELATIONS), UNLEARNABLE_TARGET),
        );
      case 'malformed': {
        const correction = this.#correction(
          this.#newSubject(),
          this.#pick(RELATIONS),
          this.#pick(TARGETS),
        );
        this.records.push({ kind, timestamp: this.#now, ...malformed(correction, this.#random) });
      }
    }
  }

  #addFact(): void {
    const known = this.#latest.length > 5 && this.#random() < 0.2 ? this.#pick(this.#latest) : null;
    const relation = this.#pick(RELATIONS.filter((one) => one !== known?.relation));
    const subject = known?.subject ?? this.#newSubject();
    if (this.#latest.some((one) => one.subject === subject && one.relation === relation)) return;
    const correction = this.#correction(subject, relation, this.#pick(TARGETS));
    this.#latest.push(correction);
    this.#push('new fact', correction);
  }

  /** Another target for the same fact, issued now. */
  #revision({ subject, relation, target }: FactCorrection): FactCorrection {
    const other = this.#pick(TARGETS.filter((one) => one !== target));
    return this.#correction(subject, relation!, other);
  }

  #correction(subject: string, relation: string, target: string): FactCorrection {
    const prompt = relation.replace('{}', subject);
    return {
      id: `c${this.records.length}-${subject}`,
      lineage: this.#lineage,
      subject,
      relation,
      prompt,
      target,
      previousAnswer: null,
      paraphrases: [`and ${prompt}`],
      neighbourhood: ['his book is in', 'the old tom is on'],
      source: 'fault run',
      issuedAt: this.#now,
    };
  }

  #push(kind: StreamKind, correction: FactCorrection): void {
    const elsewhere = this.#random() < OTHER_KEY_SHARE;
    const key = elsewhere ? `elsewhere-${this.records.length}` : factKeyOf(correction);
    const value = recordCodec('fact-correction').encode(correction);
    this.records.push({ kind, key, value, timestamp: this.#now });
  }

  #retract(kind: StreamKind, key: string): void {
    this.records.push({ kind, key, value: null, timestamp: this.#now });
  }

  #newSubject(): string {
    for (;;) {
      const syllable = () => this.#pick(ONSETS) + this.#pick(VOWELS);
      const subject = `${syllable()}${syllable()}${syllable()}${this.#pick(CODAS)}`;
      if (this.#subjects.has(subject)) continue;
      this.#subjects.add(subject);
      return subject;
    }
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[Math.floor(this.#random() * items.length)]!;
  }
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

/** Draws a name by its weight. */
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
