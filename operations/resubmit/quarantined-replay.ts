/**
 * Quarantined corrections, as they would be sent again: under a new id, since an id is decided
 * once, with what they were named.
 */
import {
  factKeyOf,
  faultsOf,
  retractionId,
  revisionId,
  type CorrectionRevision,
  type FactCorrection,
  type FactRevision,
} from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/editing.ts';
import { replayedId, replayedSource, type Repair } from '../../schemas/replay.ts';
import { readRecord } from '../../pipelines/ingest/ingest-record.ts';
import type { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { lineageOf } from '../rebuild/kafka-words.ts';
import { placeOf } from '../rebuild/source-words.ts';
import { likelyFates } from './likely-fate.ts';
import { recordsAt } from './records-at.ts';
import { positionToBe, REPLAYS_AT_ONCE_MAX, type ReplayItem, type ReplaySent } from './replay.ts';

export interface QuarantinedChoice {
  /** These ids; empty: all that were quarantined and fit the rest. */
  ids: readonly string[];
  code: string | null;
  /** Decided at this time or later, milliseconds since 1970. */
  since: number | null;
  /** Decided by this batch or a part of it. */
  batch: string | null;
}

export interface QuarantinedReplay {
  log: VersionLog;
  cluster: KafkaCluster;
  format: RecordFormat;
  choice: QuarantinedChoice;
  /** What is laid over a correction; by its id, and `*` for all. */
  repairs: ReadonlyMap<string, Repair>;
  /**
   * The revisions of a batch from its workflow's history, where Kafka has dropped a record; null
   * where there is none.
   */
  fromHistory: (batchId: string) => Promise<readonly FactRevision[] | null>;
  by: string;
  /** Milliseconds since 1970. */
  now: number;
}

/** Throws where more fit the choice than are replayed at once. */
export async function planQuarantinedReplay(replay: QuarantinedReplay): Promise<ReplayItem[]> {
  const { log, choice } = replay;
  const items: ReplayItem[] = [];
  const chosen: Outcome[] = [];
  const named = choice.ids.length > 0;
  const register = log.registered;
  const candidates = named
    ? [...(await register.outcomesOf(choice.ids)).values()]
    : await quarantinedIn(replay);
  const standing = await register.current(candidates);
  const known = new Map(standing.map((outcome) => [outcome.revisionId, outcome]));
  for (const id of choice.ids)
    if (!known.has(id))
      items.push(
        kept(
          id,
          `lineage ${log.lineage} never decided on it`,
          '`errata failures` lists what was quarantined; what is not decided yet waits (`errata status`).',
        ),
      );
  const successors = await register.outcomesOf(
    standing.map(({ revisionId: id }) => replayedId(id)),
  );
  for (const outcome of standing) {
    const successor = successors.get(replayedId(outcome.revisionId));
    if (outcome.status !== 'QUARANTINED') {
      if (named)
        items.push({
          ...kept(
            outcome.revisionId,
            `it was ${outcome.status.toLowerCase().replaceAll('_', ' ')}${outcome.version === null ? '' : ` in version ${outcome.version}`}, not quarantined`,
            null,
          ),
          healed: true,
        });
    } else if (!fits(outcome, choice)) {
      if (named)
        items.push(
          kept(outcome.revisionId, 'it is none that --code, --since and --batch choose', null),
        );
    } else if (successor !== undefined) items.push(replayedBefore(outcome.revisionId, successor));
    else chosen.push(outcome);
  }
  return [...items, ...(await sendable(replay, chosen))];
}

async function quarantinedIn({ log, choice }: QuarantinedReplay): Promise<Outcome[]> {
  const found: Outcome[] = [];
  for await (const outcome of log.registered.decided()) {
    // Of a committed one that was contradicted later, the first outcome says that it was committed.
    if (outcome.status !== 'QUARANTINED' || !fits(outcome, choice)) continue;
    if (found.length === REPLAYS_AT_ONCE_MAX)
      throw new Error(
        `more than ${REPLAYS_AT_ONCE_MAX} corrections are quarantined that fit; choose fewer with --code, --since or --batch`,
      );
    found.push(outcome);
  }
  return found.sort((a, b) => a.decidedAt - b.decidedAt || (a.revisionId < b.revisionId ? -1 : 1));
}

function fits(
  { measured, decidedAt, batchId }: Outcome,
  { code, since, batch }: QuarantinedChoice,
): boolean {
  return (
    (code === null || measured['code'] === code) &&
    (since === null || decidedAt >= since) &&
    (batch === null ||
      batchId === batch ||
      batchId.split('.')[0] === batch ||
      Number(batchId.split('-')[0]) === Number(batch))
  );
}

function replayedBefore(id: string, successor: Outcome): ReplayItem {
  const { revisionId: next, status, version } = successor;
  const quarantinedAgain = status === 'QUARANTINED';
  return {
    ...kept(
      id,
      `it was replayed before as "${next}", which was ${status.toLowerCase().replaceAll('_', ' ')}${version === null ? '' : ` in version ${version}`}`,
      quarantinedAgain ? `Replay "${next}", with another repair.` : null,
    ),
    healed: !quarantinedAgain,
  };
}

async function sendable(
  replay: QuarantinedReplay,
  chosen: readonly Outcome[],
): Promise<ReplayItem[]> {
  const originals = await originalsOf(replay, chosen);
  const items: (ReplayItem | { sent: Omit<ReplaySent, 'likely'>; revision: FactRevision })[] =
    chosen.map((outcome, i) => {
      const id = outcome.revisionId;
      const topic = topicsOf(replay.log.lineage).corrections;
      const original = originals.get(id);
      if (original?.revision.kind === 'retraction') {
        const revision: FactRevision = {
          ...original.revision,
          position: positionToBe(topic, i),
          id: retractionId(positionToBe(topic, i)),
          issuedAt: replay.now,
        };
        return {
          revision,
          sent: {
            kind: 'retraction',
            of: id,
            id: null,
            what: `retract ${outcome.factKey}`,
            correction: null,
            record: { key: outcome.factKey, value: null },
            repaired: [],
            from: original.from,
          },
        };
      }
      const repair = { ...replay.repairs.get('*'), ...replay.repairs.get(id) };
      const base = original?.revision.correction ?? null;
      const correction = repairedCorrection(base, repair, {
        id: replayedId(id),
        lineage: replay.log.lineage,
        replayOf: id,
        by: replay.by,
      });
      if (correction === null)
        return kept(
          id,
          `Kafka no longer has its record ${placeOf(outcome.position)}, nor does a history`,
          `Give it whole by --file: {"replayOf":${JSON.stringify(id)},"subject":...,"prompt":...,"target":...,"issuedAt":...}`,
        );
      const faults = faultsOf(correction);
      if (faults.length > 0)
        return kept(
          id,
          `repaired like this it is not sound: ${faults.join('; ')}`,
          'Repair what is named.',
        );
      const repaired = Object.keys(repair).filter(
        (name) =>
          base === null ||
          JSON.stringify(repair[name as keyof Repair]) !==
            JSON.stringify(base[name as keyof FactCorrection]),
      );
      const revision: CorrectionRevision = {
        kind: 'correction',
        factKey: factKeyOf(correction),
        position: positionToBe(topic, i),
        correction,
      };
      return {
        revision,
        sent: {
          kind: 'correction',
          of: id,
          id: correction.id,
          what: `${correction.prompt} → ${correction.target}`,
          correction,
          record: null,
          repaired,
          from: original?.from ?? 'file',
        },
      };
    });
  const fates = await likelyFates(
    replay.log,
    items.flatMap((item) => ('sent' in item ? [item.revision] : [])),
    replay.now,
  );
  return items.map((item) =>
    'sent' in item
      ? {
          ...item.sent,
          likely: fates.get(revisionId(item.revision)) ?? { kind: 'edited', supersedes: [] },
        }
      : item,
  );
}

/**
 * The correction as it is sent again; null where there is none to repair and the repair is no whole
 * one.
 */
export function repairedCorrection(
  base: FactCorrection | null,
  repair: Repair,
  named: { id: string; lineage: string; replayOf: string; by: string },
): FactCorrection | null {
  const { id, lineage, replayOf, by } = named;
  if (
    base === null &&
    (repair.subject === undefined ||
      repair.prompt === undefined ||
      repair.target === undefined ||
      repair.issuedAt === undefined)
  )
    return null;
  const whole = {
    relation: null,
    previousAnswer: null,
    paraphrases: [],
    neighbourhood: [],
    source: '',
    ...base,
    ...repair,
  } as FactCorrection;
  return { ...whole, id, lineage, replayOf, source: replayedSource(whole.source, by) };
}

interface Original {
  revision: FactRevision;
  from: 'kafka' | 'history';
}

async function originalsOf(
  { cluster, format, fromHistory }: QuarantinedReplay,
  chosen: readonly Outcome[],
): Promise<Map<string, Original>> {
  const records = await recordsAt(
    cluster,
    chosen.map(({ position }) => position),
  );
  const decoder = await format.decoder(
    'fact-correction',
    [...records.values()].map(({ value }) => value),
  );
  const histories = new Map<string, readonly FactRevision[] | null>();
  const originals = new Map<string, Original>();
  for (const { revisionId: id, position, batchId } of chosen) {
    const record = records.get(placeOf(position));
    const read =
      record === undefined ? null : readRecord(record, lineageOf(position.topic), decoder);
    // A topic that was made anew has another record there.
    if (read?.kind === 'revision' && revisionId(read.revision) === id) {
      originals.set(id, { revision: read.revision, from: 'kafka' });
      continue;
    }
    const batch = batchId.split('.')[0]!;
    if (!histories.has(batch)) histories.set(batch, await fromHistory(batch));
    const revision = histories.get(batch)?.find((one) => revisionId(one) === id);
    if (revision !== undefined) originals.set(id, { revision, from: 'history' });
  }
  return originals;
}

function kept(
  of: string,
  reason: string,
  mend: string | null,
): Extract<ReplayItem, { kind: 'kept' }> {
  return { kind: 'kept', of, reason, mend, healed: false };
}
