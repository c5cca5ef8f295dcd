/**
 * What a submitter asks for: a fact is to be answered differently (a correction) or as the base
 * model answers it (a retraction). Both are revisions of one fact, and a fact is known by its key.
 */

/** Where a record stands in Kafka. The offset is a decimal string: it may exceed 2^53. */
export interface KafkaPosition {
  topic: string;
  partition: number;
  offset: string;
}

/** A correction as it travels on `errata.<lineage>.corrections` (fact-correction.avsc). */
export interface FactCorrection {
  /** Chosen by the submitter; a second record with the same id is the same correction. */
  id: string;
  lineage: string;
  /** Occurs literally in `prompt`. */
  subject: string;
  /** What is said about the subject; null: the prompt with `{}` in place of the subject. */
  relation: string | null;
  prompt: string;
  /** What the model shall say after the prompt, without the space before it. */
  target: string;
  /** What the model said before, if known. */
  previousAnswer: string | null;
  paraphrases: string[];
  /** Prompts near the fact whose answers must stay. */
  neighbourhood: string[];
  source: string;
  /** Milliseconds since 1970, by the submitter's clock. */
  issuedAt: number;
  /**
   * What it is sent again for: the id of a quarantined correction, or
   * `record:<topic>-<partition>@<offset>` of a record that could not be taken.
   */
  replayOf?: string;
}

export interface CorrectionRevision {
  kind: 'correction';
  factKey: string;
  position: KafkaPosition;
  correction: FactCorrection;
}

/** A null value on the topic: the fact goes back to the base model's answer. */
export interface RetractionRevision {
  kind: 'retraction';
  factKey: string;
  position: KafkaPosition;
  /** `retract:<topic>-<partition>-<offset>`; a retraction has no id of its own. */
  id: string;
  /** The record's Kafka timestamp, milliseconds since 1970. */
  issuedAt: number;
}

export type FactRevision = CorrectionRevision | RetractionRevision;

/**
 * Bounds on one correction; a record beyond them goes to the dead-letter topic. Lengths are UTF-16
 * code units.
 */
export const CORRECTION_LIMITS = {
  idCharactersMax: 200,
  lineageCharactersMax: 100,
  subjectCharactersMax: 400,
  relationCharactersMax: 1_000,
  promptCharactersMax: 2_000,
  targetCharactersMax: 400,
  sourceCharactersMax: 1_000,
  /** A topic's name has at most 249, and partition and offset stand behind it. */
  replayOfCharactersMax: 300,
  paraphrasesMax: 16,
  neighbourhoodMax: 32,
  recordBytesMax: 65_536,
  /** The last millisecond that a date can have. */
  issuedAtMax: 8_640_000_000_000_000,
} as const;

/** Lineage names become topic names, workflow ids and folder names, so they are narrow. */
export const LINEAGE_NAME = /^[a-z0-9][a-z0-9_-]{0,99}$/;

/**
 * The identity of a fact inside its lineage, and the Kafka key: `subject|relation`, each in Unicode
 * NFC with runs of white space folded to one space and `|` and `\` escaped by `\`.
 */
export function factKeyOf(
  correction: Pick<FactCorrection, 'subject' | 'relation' | 'prompt'>,
): string {
  const relation = correction.relation ?? correction.prompt.replace(correction.subject, '{}');
  return `${keyPart(correction.subject)}|${keyPart(relation)}`;
}

/**
 * Whether two corrections of one fact ask for the same answer; spelling in Unicode and white space
 * at the ends do not count.
 */
export function saysTheSame(a: { target: string }, b: { target: string }): boolean {
  return a.target.trim().normalize('NFC') === b.target.trim().normalize('NFC');
}

export function revisionId(revision: FactRevision): string {
  return revision.kind === 'correction' ? revision.correction.id : revision.id;
}

export function revisionIssuedAt(revision: FactRevision): number {
  return revision.kind === 'correction' ? revision.correction.issuedAt : revision.issuedAt;
}

export function retractionId(position: KafkaPosition): string {
  return `retract:${position.topic}-${position.partition}-${position.offset}`;
}

/**
 * What is wrong with a correction, in words for its submitter; empty when it is sound. The check
 * needs no model: those that do (target too long in tokens, subject's token at the front) come
 * later.
 */
export function faultsOf(correction: FactCorrection): string[] {
  const faults: string[] = [];
  const limits = CORRECTION_LIMITS;
  const text = (name: string, value: string, charactersMax: number, emptyAllowed = false) => {
    if (!emptyAllowed && value.trim() === '') faults.push(`${name} is empty`);
    if (value.length > charactersMax)
      faults.push(`${name} has ${value.length} characters, at most ${charactersMax} are allowed`);
    if (!value.isWellFormed()) faults.push(`${name} is not well-formed Unicode`);
  };
  text('id', correction.id, limits.idCharactersMax);
  text('subject', correction.subject, limits.subjectCharactersMax);
  text('prompt', correction.prompt, limits.promptCharactersMax);
  text('target', correction.target, limits.targetCharactersMax);
  text('source', correction.source, limits.sourceCharactersMax, true);
  if (correction.relation !== null)
    text('relation', correction.relation, limits.relationCharactersMax);
  if (correction.previousAnswer !== null)
    text('previousAnswer', correction.previousAnswer, limits.targetCharactersMax, true);
  if (correction.replayOf !== undefined)
    text('replayOf', correction.replayOf, limits.replayOfCharactersMax);
  if (!LINEAGE_NAME.test(correction.lineage))
    faults.push(
      `lineage "${correction.lineage.slice(0, 120)}" is not of the form ${LINEAGE_NAME.source}`,
    );
  if (correction.subject !== '' && !correction.prompt.includes(correction.subject))
    faults.push('the subject does not occur in the prompt');
  if (correction.paraphrases.length > limits.paraphrasesMax)
    faults.push(
      `${correction.paraphrases.length} paraphrases, at most ${limits.paraphrasesMax} are allowed`,
    );
  if (correction.neighbourhood.length > limits.neighbourhoodMax)
    faults.push(
      `${correction.neighbourhood.length} neighbourhood prompts, at most ${limits.neighbourhoodMax} are allowed`,
    );
  correction.paraphrases.forEach((prompt, i) =>
    text(`paraphrases[${i}]`, prompt, limits.promptCharactersMax),
  );
  correction.neighbourhood.forEach((prompt, i) =>
    text(`neighbourhood[${i}]`, prompt, limits.promptCharactersMax),
  );
  if (!isInstant(correction.issuedAt))
    faults.push('issuedAt is not a count of milliseconds since 1970');
  const bytes = faults.length === 0 ? recordBytesOf(correction) : 0;
  if (bytes > limits.recordBytesMax)
    faults.push(`its record has ${bytes} bytes, at most ${limits.recordBytesMax} are allowed`);
  return faults;
}

/** Whether a number is a count of milliseconds since 1970 that a date can have. */
export function isInstant(milliseconds: number): boolean {
  return (
    Number.isSafeInteger(milliseconds) &&
    milliseconds >= 0 &&
    milliseconds <= CORRECTION_LIMITS.issuedAtMax
  );
}

/**
 * Bytes of a correction that has no other fault in single-object encoding: counted, since whoever
 * checks one cannot always load a codec.
 */
export function recordBytesOf(correction: FactCorrection): number {
  const {
    id,
    lineage,
    subject,
    relation,
    prompt,
    target,
    previousAnswer,
    paraphrases,
    neighbourhood,
    source,
    issuedAt,
    replayOf,
  } = correction;
  const list = (items: readonly string[]): number =>
    items.reduce(
      (sum, item) => sum + textBytes(item),
      1 + (items.length > 0 ? longBytes(items.length) : 0),
    );
  const optional = (text: string | null): number => 1 + (text === null ? 0 : textBytes(text));
  const texts = [id, lineage, subject, prompt, target, source].reduce(
    (sum, text) => sum + textBytes(text),
    0,
  );
  return (
    HEAD_BYTES +
    texts +
    optional(relation) +
    optional(previousAnswer) +
    list(paraphrases) +
    list(neighbourhood) +
    longBytes(issuedAt) +
    optional(replayOf ?? null)
  );
}

const LONG_BYTES_MAX = 10;
/** The single-object head: a mark and the fingerprint of the schema. */
const HEAD_BYTES = 10;

function textBytes(text: string): number {
  const { length } = new TextEncoder().encode(text);
  return longBytes(length) + length;
}

/** Avro writes a whole number from 0 zig-zag, seven bits a byte. */
function longBytes(value: number): number {
  let bytes = 1;
  for (let rest = 2 * value; rest >= 0x80 && bytes < LONG_BYTES_MAX; rest = Math.floor(rest / 0x80))
    bytes++;
  return bytes;
}

/**
 * A text in Unicode NFC with runs of white space folded to one space: what is equal so is the same
 * subject.
 */
export function normalisedText(text: string): string {
  return text.normalize('NFC').trim().replace(/\s+/gu, ' ');
}

function keyPart(text: string): string {
  return normalisedText(text).replace(/[\\|]/g, (character) => `\\${character}`);
}
