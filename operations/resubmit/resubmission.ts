/**
 * Resubmission: sends quarantined corrections and dead letters again, repaired or unchanged. Both
 * sources plan items of the same form, which can be shown before they are sent.
 */
import type { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { ConsumedRecord, RecordHeaders } from '../../pipelines/kafka/records.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import {
  factKeyOf,
  revisionId,
  type FactCorrection,
  type FactRevision,
  type KafkaPosition,
} from '../../schemas/correction.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';
import { resubmittedSource, type Repair } from '../../schemas/resubmit.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { placeOf, spansOf } from '../record-places.ts';
import { likelyOutcomes, type LikelyOutcome } from './likely-outcome.ts';

/** Corrections or letters in one resubmission. */
export const RESUBMITTED_MAX = 10_000;

export interface Resubmission {
  log: VersionLog;
  cluster: KafkaCluster;
  format: RecordFormat;
  /** Replacement members of a correction, by what is repaired; those under `*` apply to all. */
  repairs: ReadonlyMap<string, Repair & { id?: string }>;
  by: string;
  /** Milliseconds since 1970. */
  now: number;
}

export type ResubmitItem = ResubmitSent | ResubmitKept;

/** An item to be sent. */
export interface ResubmitSent {
  kind: 'correction' | 'retraction' | 'record';
  /** The id of the resubmitted correction, or `<partition>@<offset>` of a dead letter. */
  of: string;
  /** The id under which it is sent; null for a retraction, or a record without one. */
  id: string | null;
  what: string;
  /** The correction to send; null if `record` is sent. */
  correction: FactCorrection | null;
  /** The record of a retraction, or of a letter that is sent unchanged. */
  record: { key: Buffer | string | null; value: Buffer | null; headers?: RecordHeaders } | null;
  /** Members that the repair changes. */
  repaired: string[];
  /** The source of its content. */
  from: 'kafka' | 'history' | 'file';
  likely: LikelyOutcome | { kind: 'dead-letter'; className: string; message: string };
}

/** An item that is not sent. */
export interface ResubmitKept {
  kind: 'kept';
  of: string;
  reason: string;
  /** The change that would let it be sent; null if none would. */
  fix: string | null;
  /** Whether it was resubmitted before, or is not a failure. */
  fixed: boolean;
}

/** An item to be sent, before its likely outcome is known. */
export type Planned = { sent: Omit<ResubmitSent, 'likely'> } & (
  { revision: FactRevision } | Pick<ResubmitSent, 'likely'>
);

export function kept(of: string, reason: string, fix: string | null): ResubmitKept {
  return { kind: 'kept', of, reason, fix, fixed: false };
}

export function alreadyFixed(of: string, reason: string): ResubmitKept {
  return { kind: 'kept', of, reason, fix: null, fixed: true };
}

/** Returns a position after all others, for the i-th of the unsent revisions. */
export function positionToBe(topic: string, i: number): KafkaPosition {
  return { topic, partition: 0, offset: String(2n ** 62n + BigInt(i)) };
}

interface Repairable {
  of: string;
  /** The id under which it is sent. */
  id: string;
  replayOf: string;
  repair: Repair;
  /** The correction to be repaired; null if it cannot be read. */
  base: FactCorrection | null;
  from: ResubmitSent['from'];
  position: KafkaPosition;
  /** The reason why it cannot be read. */
  unreadable: string;
}

/** Plans a correction's resubmission, with its repair applied. */
export function planRepaired(
  { log, by }: Resubmission,
  { of, id, replayOf, repair, base, from, position, unreadable }: Repairable,
): ResubmitKept | Planned {
  const whole = wholeCorrection(base, repair);
  if (whole === null)
    return kept(
      of,
      `${unreadable}, so a repair must be a whole correction`,
      `Give it by --file: {"replayOf":${JSON.stringify(replayOf)},` +
        '"subject":...,"prompt":...,"target":...,"issuedAt":...}',
    );
  const source = resubmittedSource(whole.source, by);
  const correction = { ...whole, id, lineage: log.lineage, replayOf, source };
  const faults = faultsOf(correction);
  if (faults.length > 0)
    return kept(of, `repaired like this it is not sound: ${faults.join('; ')}`, 'Repair those.');
  const changes = (name: string): boolean =>
    base === null ||
    JSON.stringify(repair[name as keyof Repair]) !==
      JSON.stringify(base[name as keyof FactCorrection]);
  return {
    revision: { kind: 'correction', factKey: factKeyOf(correction), position, correction },
    sent: {
      kind: 'correction',
      of,
      id,
      what: `${correction.prompt} → ${correction.target}`,
      correction,
      record: null,
      repaired: Object.keys(repair).filter(changes),
      from: base === null ? 'file' : from,
    },
  };
}

/** Applies the repair to the base; null if the result is not a whole correction. */
function wholeCorrection(base: FactCorrection | null, repair: Repair): FactCorrection | null {
  const { subject, prompt, target, issuedAt } = repair;
  const isWhole = [subject, prompt, target, issuedAt].every((member) => member !== undefined);
  if (base === null && !isWhole) return null;
  return {
    relation: null,
    previousAnswer: null,
    paraphrases: [],
    neighbourhood: [],
    source: '',
    ...base,
    ...repair,
  } as FactCorrection;
}

/** Adds the likely outcomes to the plan. */
export async function withLikelyOutcomes(
  { log, now }: Resubmission,
  planned: readonly (ResubmitKept | Planned)[],
): Promise<ResubmitItem[]> {
  const revisions = planned.flatMap((one) => ('revision' in one ? [one.revision] : []));
  const outcomes = await likelyOutcomes(log, revisions, now);
  return planned.map((one) => {
    if ('kind' in one) return one;
    const likely =
      'likely' in one
        ? one.likely
        : (outcomes.get(revisionId(one.revision)) ?? { kind: 'edited' as const, supersedes: [] });
    return { ...one.sent, likely };
  });
}

/** Reads the records at these positions that Kafka still has, by `<topic>-<partition>@<offset>`. */
export async function recordsAt(
  cluster: KafkaCluster,
  positions: readonly KafkaPosition[],
): Promise<Map<string, ConsumedRecord>> {
  const wanted = new Set(positions.map(placeOf));
  const found = new Map<string, ConsumedRecord>();
  for (const [topic, spans] of spansOf(wanted))
    await cluster.readSpans(topic, spans, (records) => {
      for (const record of records)
        if (wanted.has(placeOf(record))) found.set(placeOf(record), record);
    });
  return found;
}
