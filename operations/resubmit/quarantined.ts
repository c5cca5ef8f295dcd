/**
 * Plans to resubmit quarantined corrections, each under a new id, since an id is decided once. A
 * correction is read from its record in Kafka or, if Kafka has dropped it, from its batch's
 * history.
 */
import { readRecord } from '../../pipelines/ingest/ingest-record.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import { retractionId, revisionId, type FactRevision } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import { resubmittedId } from '../../schemas/resubmit.ts';
import { lineageOf, placeOf } from '../record-places.ts';
import {
  alreadyFixed,
  kept,
  planRepaired,
  positionToBe,
  recordsAt,
  RESUBMITTED_MAX,
  withLikelyOutcomes,
  type Planned,
  type ResubmitItem,
  type ResubmitKept,
  type Resubmission,
} from './resubmission.ts';

interface QuarantinedChoice {
  /** These ids; empty: all quarantined ones that match the other fields. */
  ids: readonly string[];
  code: string | null;
  /** Decided at this time or later, milliseconds since 1970. */
  since: number | null;
  /** Decided by this batch or a part of it. */
  batch: string | null;
}

interface QuarantinedResubmission extends Resubmission {
  choice: QuarantinedChoice;
  /** Reads a batch's revisions from its workflow's history; null without a history. */
  fromHistory: (batchId: string) => Promise<readonly FactRevision[] | null>;
}

/** Plans the resubmission. Throws if more corrections match than may be sent at once. */
export async function planQuarantined(
  resubmission: QuarantinedResubmission,
): Promise<ResubmitItem[]> {
  const { log, choice } = resubmission;
  const register = log.registered;
  const named = choice.ids.length > 0;
  const first = named
    ? [...(await register.outcomesOf(choice.ids)).values()]
    : await quarantinedIn(resubmission);
  const current = await register.current(first);
  const known = new Set(current.map(({ revisionId: id }) => id));
  const items: ResubmitItem[] = choice.ids
    .filter((id) => !known.has(id))
    .map((id) =>
      kept(
        id,
        `lineage ${log.lineage} never decided on it`,
        '`errata failures` lists what was quarantined; `errata status` shows what waits.',
      ),
    );
  const successors = await register.outcomesOf(
    current.map(({ revisionId: id }) => resubmittedId(id)),
  );
  const chosen: Outcome[] = [];
  for (const outcome of current) {
    const id = outcome.revisionId;
    const successor = successors.get(resubmittedId(id));
    if (outcome.status !== 'QUARANTINED') {
      if (named) items.push(alreadyFixed(id, `it was ${decisionText(outcome)}, not quarantined`));
    } else if (!fits(outcome, choice)) {
      if (named) items.push(kept(id, '--code, --since and --batch do not choose it', null));
    } else if (successor === undefined) chosen.push(outcome);
    else items.push(resubmittedBefore(id, successor));
  }
  const originals = await originalsOf(resubmission, chosen);
  const planned = chosen.map((outcome, i) =>
    plannedOutcome(resubmission, outcome, i, originals.get(outcome.revisionId)),
  );
  return [...items, ...(await withLikelyOutcomes(resubmission, planned))];
}

async function quarantinedIn({ log, choice }: QuarantinedResubmission): Promise<Outcome[]> {
  const found: Outcome[] = [];
  for await (const outcome of log.registered.decided()) {
    if (outcome.status !== 'QUARANTINED' || !fits(outcome, choice)) continue;
    if (found.length === RESUBMITTED_MAX)
      throw new Error(
        `more than ${RESUBMITTED_MAX} quarantined corrections fit; ` +
          'choose fewer with --code, --since or --batch',
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

/** Describes an outcome: "committed in version 12". */
export function decisionText({ status, version }: Pick<Outcome, 'status' | 'version'>): string {
  const decision = status.toLowerCase().replaceAll('_', ' ');
  return version === null ? decision : `${decision} in version ${version}`;
}

function resubmittedBefore(id: string, successor: Outcome): ResubmitKept {
  const { revisionId: next } = successor;
  const reason = `it was resubmitted before as "${next}", which was ${decisionText(successor)}`;
  return successor.status === 'QUARANTINED'
    ? kept(id, reason, `Resubmit "${next}", with another repair.`)
    : alreadyFixed(id, reason);
}

function plannedOutcome(
  resubmission: QuarantinedResubmission,
  { revisionId: of, factKey, position: place }: Outcome,
  i: number,
  original: Original | undefined,
): ResubmitKept | Planned {
  const { log, repairs, now } = resubmission;
  const position = positionToBe(topicsOf(log.lineage).corrections, i);
  if (original?.revision.kind !== 'retraction')
    return planRepaired(resubmission, {
      of,
      id: resubmittedId(of),
      replayOf: of,
      repair: { ...repairs.get('*'), ...repairs.get(of) },
      base: original?.revision.correction ?? null,
      from: original?.from ?? 'file',
      position,
      unreadable: `Kafka no longer has its record ${placeOf(place)}, nor does a history`,
    });
  return {
    revision: { ...original.revision, position, id: retractionId(position), issuedAt: now },
    sent: {
      kind: 'retraction',
      of,
      id: null,
      what: `retract ${factKey}`,
      correction: null,
      record: { key: factKey, value: null },
      repaired: [],
      from: original.from,
    },
  };
}

interface Original {
  revision: FactRevision;
  from: 'kafka' | 'history';
}

async function originalsOf(
  { cluster, format, fromHistory }: QuarantinedResubmission,
  chosen: readonly Outcome[],
): Promise<Map<string, Original>> {
  const positions = chosen.map(({ position }) => position);
  const records = await recordsAt(cluster, positions);
  const values = [...records.values()].map(({ value }) => value);
  const decoder = await format.decoder('fact-correction', values);
  const histories = new Map<string, readonly FactRevision[] | null>();
  const originals = new Map<string, Original>();
  for (const { revisionId: id, position, batchId } of chosen) {
    const record = records.get(placeOf(position));
    const read = record && readRecord(record, lineageOf(position.topic), decoder);
    // A recreated topic has another record at this position.
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
