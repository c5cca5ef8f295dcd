import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runningServer } from '../../../infra/local/server-process.ts';
import { EMBEDDED_NAMESPACE, stopEmbeddedTemporal } from '../../../infra/local/temporal.ts';
import { searchAttributesOf } from '../../../pipelines/temporal/search-attributes.ts';
import { listeningOn } from '../../harness/servers/listening.ts';
import { startTestTemporal } from '../../harness/servers/local.ts';

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'errata-temporal-'));
});

afterAll(async () => {
  await stopEmbeddedTemporal(path.join(folder, 'temporal'));
  rmSync(folder, { recursive: true, force: true });
});

async function withClient<T>(address: string, use: (client: Client) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address });
  try {
    return await use(new Client({ connection, namespace: EMBEDDED_NAMESPACE }));
  } finally {
    await connection.close();
  }
}

test('workflows survive kill -9 and a stop, and a running server is found again', async () => {
  const first = await startTestTemporal(folder);
  expect(first.found).toBe(false);
  await withClient(first.address, async (client) => {
    await client.workflow.start('anything', { taskQueue: 'nobody', workflowId: 'kept' });
    const namespace = await client.workflowService.describeNamespace({
      namespace: EMBEDDED_NAMESPACE,
    });
    expect(namespace.config?.workflowExecutionRetentionTtl?.seconds?.toNumber()).toBe(
      365 * 24 * 3_600,
    );
    expect(await searchAttributesOf(client.connection, EMBEDDED_NAMESPACE)).toMatchObject({
      usable: true,
      missing: [],
    });
  });
  expect((await fetch(first.uiUrl)).ok).toBe(true);

  // Only this machine reaches the front end, the page and the internal services.
  const addresses = listeningOn(first.pid);
  expect(addresses).toEqual(expect.arrayContaining([first.address, new URL(first.uiUrl).host]));
  expect(addresses.filter((address) => !address.startsWith('127.'))).toEqual([]);

  const again = await startTestTemporal(folder);
  expect(again).toMatchObject({
    found: true,
    pid: first.pid,
    address: first.address,
    uiUrl: first.uiUrl,
  });

  process.kill(first.pid, 'SIGKILL');
  const second = await startTestTemporal(folder);
  expect(second).toMatchObject({ found: false, address: first.address });
  const status = await withClient(second.address, (client) =>
    client.workflow.getHandle('kept').describe(),
  );
  expect(status.status.name).toBe('RUNNING');

  await second.stop();
  expect(runningServer(path.join(folder, 'temporal'))).toBeUndefined();
  const third = await startTestTemporal(folder);
  const later = await withClient(third.address, (client) =>
    client.workflow.getHandle('kept').describe(),
  );
  expect(later.status.name).toBe('RUNNING');
});

test('a process that reuses the pid of a dead server is not mistaken for it', async () => {
  const other = path.join(folder, 'other');
  const server = await startTestTemporal(other);
  await server.stop();
  const record = path.join(other, 'temporal', 'server.json');
  const written = JSON.parse(readFileSync(record, 'utf8')) as { pid: number };
  writeFileSync(record, JSON.stringify({ ...written, pid: process.pid }));
  expect(runningServer(path.join(other, 'temporal'))).toBeUndefined();
  expect(await stopEmbeddedTemporal(path.join(other, 'temporal'))).toBe(false);
});
