/**
 * Dead letters, as they would be sent again: repaired, or as they are for when their cause is gone.
 */
import {
  factKeyOf,
  faultsOf,
  revisionId,
  type CorrectionRevision,
  type FactCorrection,
  type FactRevision,
} from '../../schemas/correction.ts';
import { UndecodableRecord } from '../../schemas/failures.ts';
import { replayedRecord, type Repair } from '../../schemas/replay.ts';
import { earlierOrigins, originOf } from '../../pipelines/kafka/dead-letter.ts';
import { readRecord } from '../../pipelines/ingest/ingest-record.ts';
import type { ConsumedRecord, KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import type { RecordDecoder } from '../../schemas/records/avro.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { placeOf } from '../rebuild/source-words.ts';
import { likelyFates } from './likely-fate.ts';
import { repairedCorrection } from './quarantined-replay.ts';
import { recordsAt } from './records-at.ts';
import { positionToBe, REPLAYS_AT_ONCE_MAX, type ReplayItem, type ReplaySent } from './replay.ts';

export interface DeadLetterReplay {
  log: VersionLog;
  cluster: KafkaCluster;
  format: RecordFormat;
  /** `<partition>@<offset>` on the dead-letter topic; null: all that are not healed. */
  letters: readonly { partition: number; offset: string }[] | null;
  /** Where all are read for those that a file names by their records: only those; null: all. */
  only: ReadonlySet<string> | null;
  /**
   * What is laid over a letter's correction; by `<partition>@<offset>` or by `record:...`, and `*`
   * for all.
   */
  repairs: ReadonlyMap<string, Repair & { id?: string }>;
  /** Letters that would die again are sent all the same. */
  asIs: boolean;
  by: string;
  now: number;
}

export async function planDeadLetterReplay(replay: DeadLetterReplay): Promise<ReplayItem[]> {
  const { log, letters } = replay;
  const topic = topicsOf(log.lineage).deadLetters;
  const records =
    letters === null
      ? (await allLetters(replay, topic)).filter(
          (letter) =>
            replay.only === null ||
            replay.only.has(`${letter.partition}@${letter.offset}`) ||
            replay.only.has(replayedRecord(originOf(letter) ?? letter)),
        )
      : [
          ...(
            await recordsAt(
              replay.cluster,
              letters.map(({ partition, offset }) => ({ topic, partition, offset })),
            )
          ).values(),
        ];
  const found = new Set(records.map(placeOf));
  const missing = (letters ?? []).filter(
    ({ partition, offset }) => !found.has(placeOf({ topic, partition, offset })),
  );
  const decoder = await replay.format.decoder(
    'fact-correction',
    records.map(({ value }) => value),
  );
  const replayed = await replayedRecords(log);
  const cameBack = new Set(records.flatMap(earlierOrigins).map(replayedRecord));
  const planned = await Promise.all(
    records.map((letter, i) => plannedLetter(replay, letter, i, decoder, { replayed, cameBack })),
  );
  const fates = await likelyFates(
    log,
    planned.flatMap((one) => ('sent' in one && one.revision !== null ? [one.revision] : [])),
    replay.now,
  );
  return [
    ...missing.map(({ partition, offset }): ReplayItem => ({
      kind: 'kept',
      of: `${partition}@${offset}`,
      reason: `${topic} has no such letter`,
      mend: '`errata failures` lists the letters that are not healed.',
      healed: false,
    })),
    ...planned.map((one): ReplayItem => {
      if (!('sent' in one)) return one;
      return {
        ...one.sent,
        likely:
          one.revision === null
            ? one.likely!
            : (fates.get(revisionId(one.revision)) ?? { kind: 'edited', supersedes: [] }),
      };
    }),
  ];
}

interface Planned {
  sent: Omit<ReplaySent, 'likely'>;
  /** Null where it would die again. */
  revision: FactRevision | null;
  likely?: ReplaySent['likely'];
}

async function allLetters({ cluster }: DeadLetterReplay, topic: string): Promise<ConsumedRecord[]> {
  const extents = await cluster.extents(topic);
  const letters: ConsumedRecord[] = [];
  const spans = [...(extents ?? [])].map(([partition, { beginning, end }]) => ({
    partition,
    from: beginning,
    through: String(BigInt(end) - 1n),
  }));
  await cluster.readSpans(topic, spans, (records) => {
    letters.push(...records);
    if (letters.length > REPLAYS_AT_ONCE_MAX)
      throw new Error(
        `${topic} has more than ${REPLAYS_AT_ONCE_MAX} letters; name those that are meant, as <partition>@<offset>`,
      );
  });
  return letters.sort((a, b) => a.timestamp - b.timestamp || a.partition - b.partition);
}

/** What the corrections of all versions were sent again for. */
async function replayedRecords(log: VersionLog): Promise<Map<string, number>> {
  const replayed = new Map<string, number>();
  for await (const { entry } of log.walk())
    for (const { replayOf } of entry.added)
      if (replayOf !== undefined) replayed.set(replayOf, entry.version);
  return replayed;
}

/** What became of letters since. */
interface Since {
  /** The version that took a repair, by the record repaired. */
  replayed: ReadonlyMap<string, number>;
  /** Records of which a later letter tells. */
  cameBack: ReadonlySet<string>;
}

async function plannedLetter(
  replay: DeadLetterReplay,
  letter: ConsumedRecord,
  i: number,
  decoder: RecordDecoder<FactCorrection>,
  { replayed, cameBack }: Since,
): Promise<ReplayItem | Planned> {
  const { log, repairs, asIs, letters } = replay;
  const of = `${letter.partition}@${letter.offset}`;
  const kept = (reason: string, mend: string | null, healed = false): ReplayItem => ({
    kind: 'kept',
    of,
    reason,
    mend,
    healed,
  });
  const origin = originOf(letter) ?? {
    topic: letter.topic,
    partition: letter.partition,
    offset: letter.offset,
    className: '',
    message: 'its headers do not say why',
  };
  const replayOf = replayedRecord(origin);
  const version = replayed.get(replayOf);
  if (version !== undefined)
    return kept(`it was repaired and committed in version ${version}`, null, true);
  if (letters === null && cameBack.has(replayOf))
    return kept('it was sent as it was and came back, as a later letter', null, true);

  const { corrections: topic } = topicsOf(log.lineage);
  const position = positionToBe(topic, i);
  const { id: idGiven, ...repair } = {
    ...repairs.get('*'),
    ...repairs.get(replayOf),
    ...repairs.get(of),
  } as Repair & { id?: string };
  const own = decoded(letter, decoder);
  if (Object.keys(repair).length > 0) {
    // What was never decided keeps its id; what could not be read has none, and gets the one that
    // its place gives it.
    const id = idGiven ?? own?.id ?? `letter-${origin.topic}-${origin.partition}-${origin.offset}`;
    const correction = repairedCorrection(own, repair, {
      id,
      lineage: log.lineage,
      replayOf,
      by: replay.by,
    });
    if (correction === null)
      return kept(
        `its bytes cannot be read (${origin.message}), so a repair must be a whole correction`,
        `Give it by --file: {"replayOf":${JSON.stringify(replayOf)},"subject":...,"prompt":...,"target":...,"issuedAt":...}`,
      );
    const faults = faultsOf(correction);
    if (faults.length > 0)
      return kept(
        `repaired like this it is not sound: ${faults.join('; ')}`,
        'Repair what is named.',
      );
    const before = (await log.registered.outcomesOf([id])).get(id);
    if (before !== undefined)
      return kept(
        `"${id}" was decided since: ${before.status.toLowerCase().replaceAll('_', ' ')}`,
        before.status === 'QUARANTINED' ? `errata replay quarantined ${id}` : null,
        before.status !== 'QUARANTINED',
      );
    const revision: CorrectionRevision = {
      kind: 'correction',
      factKey: factKeyOf(correction),
      position,
      correction,
    };
    const repaired = Object.keys(repair).filter(
      (name) =>
        own === null ||
        JSON.stringify(repair[name as keyof Repair]) !==
          JSON.stringify(own[name as keyof FactCorrection]),
    );
    return {
      revision,
      sent: {
        kind: 'correction',
        of,
        id,
        what: `${correction.prompt} → ${correction.target}`,
        correction,
        record: null,
        repaired,
        from: own === null ? 'file' : 'kafka',
      },
    };
  }

  const record = { key: letter.key, value: letter.value, headers: letter.headers };
  const read = readRecord({ ...letter, ...position }, log.lineage, decoder);
  if (read.kind === 'dead') {
    if (!asIs && letters !== null)
      return kept(
        `as it is it would come back: ${read.problem.message}`,
        'Repair it with --set or --file, or send it all the same with --as-is.',
      );
    if (!asIs)
      return kept(`as it is it would come back: ${read.problem.message}`, 'Repair it by --file.');
    return {
      revision: null,
      likely: { kind: 'dead-letter', ...read.problem },
      sent: {
        kind: 'record',
        of,
        id: own?.id ?? null,
        what: origin.message,
        correction: null,
        record,
        repaired: [],
        from: 'kafka',
      },
    };
  }
  const id = revisionId(read.revision);
  if (read.revision.kind === 'correction') {
    const before = (await log.registered.outcomesOf([id])).get(id);
    if (before !== undefined)
      return kept(
        `"${id}" was decided since: ${before.status.toLowerCase().replaceAll('_', ' ')}${before.version === null ? '' : ` in version ${before.version}`}`,
        null,
        true,
      );
  }
  const what =
    read.revision.kind === 'correction'
      ? `${read.revision.correction.prompt} → ${read.revision.correction.target}`
      : `retract ${read.revision.factKey}`;
  return {
    revision: read.revision,
    sent: {
      kind: 'record',
      of,
      id: read.revision.kind === 'correction' ? id : null,
      what,
      correction: null,
      record,
      repaired: [],
      from: 'kafka',
    },
  };
}

function decoded(
  letter: ConsumedRecord,
  decoder: RecordDecoder<FactCorrection>,
): FactCorrection | null {
  if (letter.value === null) return null;
  try {
    return decoder.decode(letter.value);
  } catch (fault) {
    if (fault instanceof UndecodableRecord) return null;
    throw fault;
  }
}
