/** Plans to resubmit dead letters: repaired, or unchanged if their cause no longer exists. */
import { readRecord } from '../../pipelines/ingest/ingest-record.ts';
import { earlierOrigins, originOf } from '../../pipelines/kafka/dead-letter.ts';
import type { ConsumedRecord } from '../../pipelines/kafka/records.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import { revisionId, type FactCorrection } from '../../schemas/correction.ts';
import { UndecodableRecord } from '../../schemas/failures.ts';
import type { RecordDecoder } from '../../schemas/records/avro.ts';
import { letterId, recordReference, type Repair } from '../../schemas/resubmit.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { placeOf } from '../record-places.ts';
import { decisionText } from './quarantined.ts';
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

interface DeadLetterResubmission extends Resubmission {
  /** Partitions and offsets on the dead-letter topic; null: all letters that are not fixed. */
  letters: readonly { partition: number; offset: string }[] | null;
  /** Restricts the letters to those that a file of repairs names; null: all. */
  only: ReadonlySet<string> | null;
  /** Sends letters unchanged even if they would be refused again. */
  asIs: boolean;
}

/** Plans the resubmission. Throws if there are more letters than may be sent at once. */
export async function planDeadLetters(
  resubmission: DeadLetterResubmission,
): Promise<ResubmitItem[]> {
  const { log, letters, cluster, format } = resubmission;
  const topic = topicsOf(log.lineage).deadLetters;
  const places = (letters ?? []).map((one) => ({ topic, ...one }));
  const records =
    letters === null
      ? await allLetters(resubmission, topic)
      : [...(await recordsAt(cluster, places)).values()];
  const found = new Set(records.map(placeOf));
  const missing = places.filter((place) => !found.has(placeOf(place)));
  const values = records.map(({ value }) => value);
  const context: Context = {
    decoder: await format.decoder('fact-correction', values),
    committed: await resubmittedIn(log),
    returned: new Set(records.flatMap(earlierOrigins).map(recordReference)),
  };
  const planned = await Promise.all(
    records.map((letter, i) => plannedLetter(resubmission, letter, i, context)),
  );
  return [
    ...missing.map(({ partition, offset }) =>
      kept(
        `${partition}@${offset}`,
        `${topic} has no such letter`,
        '`errata failures` lists the letters that are not fixed.',
      ),
    ),
    ...(await withLikelyOutcomes(resubmission, planned)),
  ];
}

async function allLetters(
  { cluster, only }: DeadLetterResubmission,
  topic: string,
): Promise<ConsumedRecord[]> {
  const extents = await cluster.extents(topic);
  const letters: ConsumedRecord[] = [];
  const spans = [...(extents ?? [])].map(([partition, { beginning, end }]) => ({
    partition,
    from: beginning,
    through: String(BigInt(end) - 1n),
  }));
  await cluster.readSpans(topic, spans, (records) => {
    letters.push(...records);
    if (letters.length > RESUBMITTED_MAX)
      throw new Error(
        `${topic} has more than ${RESUBMITTED_MAX} letters; name some, as <partition>@<offset>`,
      );
  });
  return letters
    .filter(
      (letter) =>
        only === null ||
        only.has(`${letter.partition}@${letter.offset}`) ||
        only.has(recordReference(originOf(letter) ?? letter)),
    )
    .sort((a, b) => a.timestamp - b.timestamp || a.partition - b.partition);
}

/** Returns the records and ids that committed corrections resubmit, with their versions. */
export async function resubmittedIn(log: VersionLog): Promise<Map<string, number>> {
  const committed = new Map<string, number>();
  for await (const { entry } of log.walk())
    for (const { replayOf } of entry.added)
      if (replayOf !== undefined) committed.set(replayOf, entry.version);
  return committed;
}

interface Context {
  decoder: RecordDecoder<FactCorrection>;
  /** The version of each committed repair, by the repaired record. */
  committed: ReadonlyMap<string, number>;
  /** Records that were resubmitted unchanged and returned as a later letter. */
  returned: ReadonlySet<string>;
}

async function plannedLetter(
  resubmission: DeadLetterResubmission,
  letter: ConsumedRecord,
  i: number,
  { decoder, committed, returned }: Context,
): Promise<ResubmitKept | Planned> {
  const { log, repairs, letters } = resubmission;
  const of = `${letter.partition}@${letter.offset}`;
  const { topic, partition, offset } = letter;
  const message = 'its headers do not say why';
  const origin = originOf(letter) ?? { topic, partition, offset, message };
  const replayOf = recordReference(origin);
  const version = committed.get(replayOf);
  if (version !== undefined)
    return alreadyFixed(of, `it was repaired and committed in version ${version}`);
  if (letters === null && returned.has(replayOf))
    return alreadyFixed(of, 'it was sent as it was and came back, as a later letter');

  const named = { ...repairs.get('*'), ...repairs.get(replayOf), ...repairs.get(of) };
  const { id: newId, ...repair } = named as Repair & { id?: string };
  const base = decoded(letter, decoder);
  const position = positionToBe(topicsOf(log.lineage).corrections, i);
  if (Object.keys(repair).length === 0)
    return await asItWas(resubmission, { of, letter, position, base, decoder, origin });
  // An undecided correction keeps its id; an unreadable one gets an id from its place.
  const id = newId ?? base?.id ?? letterId(origin);
  const planned = planRepaired(resubmission, {
    of,
    id,
    replayOf,
    repair,
    base,
    from: 'kafka',
    position,
    unreadable: `its bytes cannot be read (${origin.message})`,
  });
  const before = (await log.registered.outcomesOf([id])).get(id);
  if ('kind' in planned || before === undefined) return planned;
  const reason = `"${id}" was decided since: ${before.status.toLowerCase().replaceAll('_', ' ')}`;
  return before.status === 'QUARANTINED'
    ? kept(of, reason, `errata resubmit quarantined ${id}`)
    : alreadyFixed(of, reason);
}

interface Unrepaired {
  of: string;
  letter: ConsumedRecord;
  position: ReturnType<typeof positionToBe>;
  base: FactCorrection | null;
  decoder: RecordDecoder<FactCorrection>;
  origin: { message: string };
}

async function asItWas(
  { log, asIs, letters }: DeadLetterResubmission,
  { of, letter, position, base, decoder, origin }: Unrepaired,
): Promise<ResubmitKept | Planned> {
  const sent = {
    kind: 'record' as const,
    of,
    correction: null,
    record: { key: letter.key, value: letter.value, headers: letter.headers },
    repaired: [],
    from: 'kafka' as const,
  };
  const read = readRecord({ ...letter, ...position }, log.lineage, decoder);
  if (read.kind === 'dead') {
    if (asIs)
      return {
        likely: { kind: 'dead-letter', ...read.problem },
        sent: { ...sent, id: base?.id ?? null, what: origin.message },
      };
    return kept(
      of,
      `as it is it would come back: ${read.problem.message}`,
      letters === null
        ? 'Repair it by --file.'
        : 'Repair it with --set or --file, or send it all the same with --as-is.',
    );
  }
  const { revision } = read;
  if (revision.kind === 'retraction')
    return { revision, sent: { ...sent, id: null, what: `retract ${revision.factKey}` } };
  const id = revisionId(revision);
  const before = (await log.registered.outcomesOf([id])).get(id);
  if (before !== undefined)
    return alreadyFixed(of, `"${id}" was decided since: ${decisionText(before)}`);
  const { prompt, target } = revision.correction;
  return { revision, sent: { ...sent, id, what: `${prompt} → ${target}` } };
}

/** Decodes the correction of a letter, sound or not; null if its bytes cannot be read. */
export function decoded(
  { value }: Pick<ConsumedRecord, 'value'>,
  decoder: RecordDecoder<FactCorrection>,
): FactCorrection | null {
  try {
    return value === null ? null : decoder.decode(value);
  } catch (fault) {
    if (fault instanceof UndecodableRecord) return null;
    throw fault;
  }
}
