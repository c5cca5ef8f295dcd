/**
 * Revisions of a fact. A correction changes the answer to the fact, and a retraction restores the
 * base model's answer. The fact is identified by its key.
 */

/** A record's place in Kafka. The offset is a decimal string: it may exceed 2^53. */
export interface KafkaPosition {
  topic: string;
  partition: number;
  offset: string;
}

/** A correction as it travels on `errata.<lineage>.corrections` (fact-correction.avsc). */
export interface FactCorrection {
  /** Chosen by the submitter. A second record with the same id is the same correction. */
  id: string;
  lineage: string;
  /** Occurs literally in `prompt`. */
  subject: string;
  /** The fact's property; null means the prompt with `{}` in place of the subject. */
  relation: string | null;
  prompt: string;
  /** The model's new continuation of the prompt, without the space before it. */
  target: string;
  /** The model's earlier answer, if known. */
  previousAnswer: string | null;
  paraphrases: string[];
  /** Prompts near the fact whose answers must not change. */
  neighbourhood: string[];
  source: string;
  /** Milliseconds since 1970, by the submitter's clock. */
  issuedAt: number;
  /**
   * The origin of a resubmission: the id of a quarantined correction, or
   * `record:<topic>-<partition>@<offset>` of a dead letter.
   */
  replayOf?: string;
}

export interface CorrectionRevision {
  kind: 'correction';
  factKey: string;
  position: KafkaPosition;
  correction: FactCorrection;
}

/** A null value on the topic. */
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

/** Bounds of one correction; a record beyond them is a dead letter. Lengths are UTF-16 units. */
export const CORRECTION_LIMITS = {
  idCharactersMax: 200,
  lineageCharactersMax: 100,
  subjectCharactersMax: 400,
  relationCharactersMax: 1_000,
  promptCharactersMax: 2_000,
  targetCharactersMax: 400,
  sourceCharactersMax: 1_000,
  /** A topic's name has at most 249; partition and offset follow. */
  replayOfCharactersMax: 300,
  paraphrasesMax: 16,
  neighbourhoodMax: 32,
  recordBytesMax: 65_536,
  /** The last millisecond of a Date. */
  issuedAtMax: 8_640_000_000_000_000,
} as const;

/** Lineage names become topic names, workflow ids and folder names, so they are narrow. */
export const LINEAGE_NAME = /^[a-z0-9][a-z0-9_-]{0,99}$/;

/**
 * The fact's identity within its lineage, and the Kafka key: `subject|relation`, both normalised
 * (`normalisedText`), with `|` and `\` escaped by `\`.
 */
export function factKeyOf(
  correction: Pick<FactCorrection, 'subject' | 'relation' | 'prompt'>,
): string {
  const relation = correction.relation ?? correction.prompt.replace(correction.subject, '{}');
  return `${keyPart(correction.subject)}|${keyPart(relation)}`;
}

/** Compares two targets, ignoring Unicode normalisation and outer white space. */
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

/** Tells whether a number is a time of a Date, in milliseconds since 1970. */
export function isInstant(milliseconds: number): boolean {
  return (
    Number.isSafeInteger(milliseconds) &&
    milliseconds >= 0 &&
    milliseconds <= CORRECTION_LIMITS.issuedAtMax
  );
}

/** A text in Unicode NFC with runs of white space folded to one space. */
export function normalisedText(text: string): string {
  return text.normalize('NFC').trim().replace(/\s+/gu, ' ');
}

function keyPart(text: string): string {
  return normalisedText(text).replace(/[\\|]/g, (character) => `\\${character}`);
}
