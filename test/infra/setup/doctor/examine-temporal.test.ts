/** Namespaces of a real Temporal: short retention, search attributes missing or of another type. */
import { Client, Connection, type ConnectionLike } from '@temporalio/client';
import { SearchAttributeType, defineSearchAttributeKey } from '@temporalio/common';
import { msToTs } from '@temporalio/common/lib/time.js';
import proto from '@temporalio/proto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readConfiguration } from '../../../../infra/config/configuration.ts';
import type { EmbeddedTemporal } from '../../../../infra/local/temporal.ts';
import { examineTemporal } from '../../../../infra/setup/doctor/examine-temporal.ts';
import {
  registerSearchAttributes,
  searchAttributesOf,
} from '../../../../pipelines/temporal/search-attributes.ts';
import { startTestTemporal } from '../../../harness/servers/local.ts';

const DAY_MS = 24 * 3_600_000;
const { INDEXED_VALUE_TYPE_KEYWORD } = proto.temporal.api.enums.v1.IndexedValueType;

let folder: string;
let server: EmbeddedTemporal;
let connection: Connection;

beforeAll(async () => {
  folder = mkdtempSync(`${tmpdir()}/errata-test-`);
  server = await startTestTemporal(folder);
  connection = await Connection.connect({ address: server.address });
});

afterAll(async () => {
  await connection?.close();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function namespaceWith(name: string, days: number): Promise<string> {
  await connection.workflowService.registerNamespace({
    namespace: name,
    workflowExecutionRetentionPeriod: msToTs(days * DAY_MS),
  });
  // The parts of the server learn about it one after another.
  for (;;) {
    const known = await searchAttributesOf(connection, name)
      .then(
        () => connection.workflowService.countWorkflowExecutions({ namespace: name, query: '' }),
        () => null,
      )
      .catch(() => null);
    if (known !== null) return name;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const examine = (environment: NodeJS.ProcessEnv) =>
  examineTemporal(
    readConfiguration(
      { ERRATA_HOME: folder, ERRATA_TEMPORAL_ADDRESS: server.address, ...environment },
      folder,
    ),
  );

/** The server, for a client without rights to the operator's service. */
function withoutOperatorRights(): ConnectionLike {
  const refused = async (): Promise<never> =>
    Promise.reject(
      Object.assign(new Error('7 PERMISSION_DENIED: Request unauthorized.'), { code: 7 }),
    );
  return {
    workflowService: connection.workflowService,
    operatorService: { listSearchAttributes: refused, addSearchAttributes: refused },
    withDeadline: (deadline: number, ask: () => Promise<unknown>) =>
      connection.withDeadline(deadline, ask),
  } as unknown as ConnectionLike;
}

test('the embedded namespace keeps histories for a year and has search attributes', async () => {
  expect(await examine({ ERRATA_TEMPORAL_NAMESPACE: server.namespace })).toEqual([
    {
      name: 'Histories',
      state: 'ok',
      found: 'kept 365 days by namespace errata, and archived beside the versions',
      mend: '',
    },
    { name: 'Search attributes', state: 'ok', found: 'registered in namespace errata', mend: '' },
  ]);
});

test('short retention without an archive and missing search attributes rate as low', async () => {
  const namespace = await namespaceWith('short', 3);
  const [histories, attributes] = await examine({
    ERRATA_TEMPORAL_NAMESPACE: namespace,
    ERRATA_ARCHIVE_HISTORIES: 'false',
  });
  expect(histories).toMatchObject({
    state: 'low',
    found: 'kept 3 days by namespace short, and then lost',
    mend: expect.stringContaining('ERRATA_ARCHIVE_HISTORIES=true') as string,
  });
  expect(attributes).toMatchObject({
    state: 'low',
    mend: expect.stringContaining(
      'temporal operator search-attribute create --namespace short ' +
        '--name ErrataLineage --type Keyword --name ErrataVersion --type Int',
    ) as string,
  });
  expect((await examine({ ERRATA_TEMPORAL_NAMESPACE: namespace }))[0]).toMatchObject({
    state: 'ok',
  });
  expect(
    (
      await examine({
        ERRATA_TEMPORAL_NAMESPACE: namespace,
        ERRATA_TEMPORAL_SEARCH_ATTRIBUTES: 'false',
      })
    )[1],
  ).toMatchObject({ state: 'ok', found: expect.stringContaining('not used') as string });
});

test('a server that does not answer is unknown, not ok', async () => {
  const found = await examine({ ERRATA_TEMPORAL_ADDRESS: '127.0.0.1:1' });
  expect(found.map(({ state }) => state)).toEqual(['unknown', 'unknown']);
});

test('search attributes are registered once and can be used at once', async () => {
  const namespace = await namespaceWith('fresh', 3);
  const both = await Promise.all([
    registerSearchAttributes(connection, namespace),
    registerSearchAttributes(connection, namespace),
  ]);
  expect(both).toMatchObject([{ usable: true }, { usable: true }]);
  const client = new Client({ connection, namespace });
  await client.workflow.start('anything', {
    taskQueue: 'nobody',
    workflowId: 'w',
    typedSearchAttributes: [
      {
        key: defineSearchAttributeKey('ErrataCorrections', SearchAttributeType.KEYWORD_LIST),
        value: ['c1', 'c2'],
      },
    ],
  });
  for (;;) {
    const { count } = await client.workflow.count('ErrataCorrections = "c2"');
    if (count === 1) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
});

test('search attributes of another type are not used, with a remedy', async () => {
  const namespace = await namespaceWith('other', 3);
  await connection.operatorService.addSearchAttributes({
    namespace,
    searchAttributes: { ErrataVersion: INDEXED_VALUE_TYPE_KEYWORD },
  });
  for (;;) {
    const registration = await registerSearchAttributes(connection, namespace);
    expect(registration.usable).toBe(false);
    if (registration.mistyped.length > 0) break;
  }
  expect((await examine({ ERRATA_TEMPORAL_NAMESPACE: namespace }))[1]).toMatchObject({
    state: 'low',
    mend: expect.stringMatching(/^ErrataVersion has another type/) as string,
  });
});

test('attributes are found without the right to list them; a refusal is explained', async () => {
  const limited = withoutOperatorRights();
  expect(await searchAttributesOf(limited, server.namespace)).toMatchObject({
    usable: true,
    missing: [],
  });
  const namespace = await namespaceWith('foreign', 3);
  expect(await registerSearchAttributes(limited, namespace)).toMatchObject({
    usable: false,
    missing: ['ErrataLineage', 'ErrataVersion', 'ErrataOutcomes', 'ErrataCorrections'],
    reason: expect.stringContaining('PERMISSION_DENIED') as string,
  });
});
