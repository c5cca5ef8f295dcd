/** Edits a lineage whose log is lost again, from the records of its topic. */
import { readRecord } from '../../pipelines/ingest/ingest-record.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import { cutNumbered, type Waiting } from '../../pipelines/batch/buffer.ts';
import { editBatch, type BatchPort } from '../../pipelines/batch/edit-batch.ts';
import { BATCH_BYTES_MAX, jsonBytes } from '../../pipelines/workflows/contract.ts';
import { localPort } from '../local-batch.ts';
import { REFUSED_MAX, RebuildRefused, rebuiltBy, type RebuildRun } from './rebuild-run.ts';
import { spoolRecords, type SpooledRecords } from './spooled-records.ts';

export async function rebuildFromRecords(run: RebuildRun): Promise<void> {
  const { around, result } = run;
  const { lineage, from, to } = run.request;
  const topic = topicsOf(lineage).corrections;
  if (from !== 'kafka')
    throw new RebuildRefused(
      `lineage ${lineage} has no versions`,
      `If its log is lost, --from kafka rebuilds it from the records of ${topic}.`,
    );
  if (to !== null)
    throw new RebuildRefused(
      `lineage ${lineage} has no versions, so that it cannot be rebuilt up to one`,
      'Leave --to out.',
    );
  result.kind = 'from-records';
  const spooled = await spoolRecords(around.kafka!().cluster, topic, (records) =>
    around.progress('reading the records', records, null),
  );
  try {
    if (spooled === null || spooled.count === 0)
      throw new RebuildRefused(
        `${topic} holds no records`,
        'Is it the lineage that was meant, and the cluster (ERRATA_KAFKA_BROKERS)?',
      );
    const engine = await around.engines.with(null);
    const made = rebuiltBy(lineage, `records of ${topic}`);
    await run.requireOwn(async (_, runId) => runId === made.runId);
    await run.requireMadeWith(engine.madeWith);
    await editRecords(run, localPort(engine.steps, around.versions, made), spooled);
  } finally {
    await spooled?.close();
  }
}

/** Buffers the records and cuts batches as the lineage workflow does. */
async function editRecords(
  run: RebuildRun,
  port: BatchPort,
  spooled: SpooledRecords,
): Promise<void> {
  const { around, result, request } = run;
  const { batch, verdict, failures } = request.settings;
  const { format } = around.kafka!();
  const limits = { editsMax: batch.batchEditsMax, bytesMax: BATCH_BYTES_MAX };
  let waiting: Waiting[] = [];
  const edit = async (): Promise<void> => {
    const at = { lineage: request.as, sequence: result.due++, now: Date.now() };
    const { batchId, revisions, settled, rest } = cutNumbered(waiting, limits, at);
    waiting = rest;
    const { outcomes } = await editBatch(port, {
      lineage: request.as,
      batchId,
      revisions,
      settled,
      verdict,
      shardEditsMax: batch.shardEditsMax,
      editAttemptsMax: failures.editAttemptsMax,
    });
    for (const { revisionId: id, status, reason } of outcomes)
      if (status === 'QUARANTINED' && result.refused.length < REFUSED_MAX)
        result.refused.push({ id, status, reason });
    result.done += 1;
  };
  const records = (result.records = { read: spooled.count, gone: String(spooled.gone), dead: 0 });
  let read = 0;
  for await (const record of spooled.inOrder()) {
    if (run.isStopped(read, spooled.count)) return;
    const decoder = await format.decoder('fact-correction', [record.value]);
    const one = readRecord(record, request.lineage, decoder);
    if (one.kind === 'dead') records.dead += 1;
    else {
      const { revision } = one;
      waiting.push({ revision, bytes: jsonBytes(revision), arrivedAt: record.timestamp });
    }
    while (waiting.length >= batch.batchEditsMax) await edit();
    read += 1;
  }
  while (waiting.length > 0) await edit();
  around.progress('rebuilding', read, spooled.count);
}
