/** Corrections, their revisions and arbitraries; a test sets the members that matter to it. */
import fc from 'fast-check';
import {
  factKeyOf,
  retractionId,
  type CorrectionRevision,
  type FactCorrection,
  type FactRevision,
  type RetractionRevision,
} from '../../schemas/correction.ts';

export const LINEAGE = 'l';
export const TOPIC = 'errata.l.corrections';

/** A correction without paraphrases and neighbours. */
export function factCorrection(id: string, more: Partial<FactCorrection> = {}): FactCorrection {
  const subject = more.subject ?? `Subject ${id}`;
  return {
    id,
    lineage: LINEAGE,
    subject,
    relation: 'place',
    prompt: `${subject} is in`,
    target: 'Lyon',
    previousAnswer: null,
    paraphrases: [],
    neighbourhood: [],
    source: 'test',
    issuedAt: 1_000,
    ...more,
  };
}

export function correctionAt(
  offset: number,
  correction: FactCorrection,
  partition = 0,
): CorrectionRevision {
  return {
    kind: 'correction',
    factKey: factKeyOf(correction),
    position: { topic: TOPIC, partition, offset: String(offset) },
    correction,
  };
}

export function retractionAt(
  offset: number,
  factKey: string,
  issuedAt: number,
  partition = 0,
): RetractionRevision {
  const position = { topic: TOPIC, partition, offset: String(offset) };
  return { kind: 'retraction', factKey, position, id: retractionId(position), issuedAt };
}

let lastOffset = 0;

/** A correction with paraphrases and neighbours, at the next offset. */
export function correction(id: string, more: Partial<FactCorrection> = {}): CorrectionRevision {
  const subject = more.subject ?? `Subject ${id}`;
  const probed = factCorrection(id, {
    relation: null,
    paraphrases: [`One finds ${subject} in`, `The place of ${subject} is`],
    neighbourhood: [`Neighbour of ${id} one is in`, `Neighbour of ${id} two is in`],
    ...more,
  });
  return correctionAt((lastOffset += 1), probed);
}

/** The retraction of a correction's fact, at the next offset. */
export function retraction(of: CorrectionRevision, issuedAt = 2_000): RetractionRevision {
  return retractionAt((lastOffset += 1), of.factKey, issuedAt);
}

/**
 * Revisions of few facts with few ids, times and targets, so that all of them collide; offsets
 * ascend by partition.
 */
export const collidingRevisions: fc.Arbitrary<FactRevision[]> = fc
  .array(
    fc.record({
      kind: fc.constantFrom('correction', 'correction', 'correction', 'retraction'),
      fact: fc.nat(3),
      id: fc.nat(12),
      issuedAt: fc.nat(3),
      target: fc.constantFrom('Lyon', 'Oslo'),
      partition: fc.nat(2),
    }),
    { maxLength: 14 },
  )
  .map((items) =>
    items.map(({ kind, fact, id, issuedAt, target, partition }, offset) => {
      // An id belongs to one fact: a second record with it is the same correction.
      const correction = factCorrection(`c${fact}-${id % 4}`, {
        subject: `Subject ${fact}`,
        issuedAt,
        target,
      });
      return kind === 'correction'
        ? correctionAt(offset, correction, partition)
        : retractionAt(offset, factKeyOf(correction), issuedAt, partition);
    }),
  );
