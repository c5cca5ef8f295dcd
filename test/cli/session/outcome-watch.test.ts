import { expect, test } from 'vitest';
import type { Clients } from '../../../cli/session/clients.ts';
import { OutcomeWatch } from '../../../cli/session/outcome-watch.ts';
import type { ConsumedRecord } from '../../../pipelines/kafka/records.ts';
import { SINGLE_OBJECT_FORMAT } from '../../../pipelines/kafka/record-format.ts';
import { topicsOf } from '../../../pipelines/kafka/topics.ts';
import { recordCodec } from '../../../schemas/records/avro.ts';
import type { Outcome, OutcomeStatus } from '../../../schemas/outcome.ts';

const topics = topicsOf('default');
const position = (offset: string) => ({ topic: topics.corrections, partition: 0, offset });

test('an outcome is found by its id, even if it came earlier', async () => {
  const { watch, deliver } = await listening();
  await deliver(outcome('a', 'COMMITTED', '3'));
  expect(await watch.outcomeOf({ id: 'a', position: position('3') })).toMatchObject({
    kind: 'outcome',
    outcome: { status: 'COMMITTED' },
  });
});

test('an outcome is waited for', async () => {
  const { watch, deliver } = await listening();
  const outcomeOfB = watch.outcomeOf({ id: 'b', position: position('4') });
  await deliver(outcome('a', 'COMMITTED', '3'));
  await deliver(outcome('b', 'QUARANTINED', '4'));
  expect(await outcomeOfB).toMatchObject({ outcome: { revisionId: 'b', status: 'QUARANTINED' } });
});

test('the outcome of a retraction is found by its position in Kafka', async () => {
  const { watch, deliver } = await listening();
  await deliver(outcome('retract:t-0-5', 'RETRACTED', '5'));
  expect(await watch.outcomeOf({ id: null, position: position('5') })).toMatchObject({
    outcome: { status: 'RETRACTED' },
  });
});

test('the first outcome counts, since a later one is due to a later revision', async () => {
  const { watch, deliver } = await listening();
  await deliver(outcome('a', 'COMMITTED', '3'));
  await deliver(outcome('a', 'SUPERSEDED', '3'));
  expect(await watch.outcomeOf({ id: 'a', position: position('3') })).toMatchObject({
    outcome: { status: 'COMMITTED' },
  });
});

async function listening() {
  let receive: ((records: ConsumedRecord[]) => Promise<unknown> | void) | null = null;
  const cluster = {
    extents: () => Promise.resolve(new Map([[0, { beginning: '0', end: '0' }]])),
    follow: (
      _topics: readonly string[],
      _from: unknown,
      onRecords: (records: ConsumedRecord[]) => Promise<void> | void,
    ) => {
      receive = onRecords;
      return Promise.resolve({
        stop: () => Promise.resolve(),
        ended: new Promise<Error>(() => {}),
        joined: () => true,
      });
    },
  };
  const watch = await OutcomeWatch.start(
    { cluster, format: SINGLE_OBJECT_FORMAT } as unknown as Clients,
    ['default'],
  );
  const codec = recordCodec('correction-outcome');
  const deliver = async (announced: Outcome) => {
    await receive!([
      {
        topic: topics.outcomes,
        partition: 0,
        offset: '0',
        timestamp: 0,
        key: null,
        headers: {},
        value: Buffer.from(codec.encode(announced)),
      },
    ]);
  };
  return { watch, deliver };
}

function outcome(revisionId: string, status: OutcomeStatus, offset: string): Outcome {
  return {
    lineage: 'default',
    revisionId,
    factKey: 'a|{}',
    status,
    version: status === 'QUARANTINED' ? null : 1,
    reason: null,
    measured: {},
    position: position(offset),
    batchId: 'b',
    decidedAt: 1,
  };
}
