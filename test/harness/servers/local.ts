/**
 * Real servers for one test file: their own data in a temporary folder, their own free ports, gone
 * afterwards. They use what the set-up provisioned (`npm test` does that first) and nothing else of
 * the data folder.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startEmbeddedKafka, type EmbeddedKafka } from '../../../infra/local/kafka.ts';
import { startEmbeddedTemporal, type EmbeddedTemporal } from '../../../infra/local/temporal.ts';
import { runningServer } from '../../../infra/local/server-process.ts';
import { homeFromEnvironment } from '../../../infra/config/home.ts';

export interface TestServers {
  readonly kafka: EmbeddedKafka;
  readonly temporal: EmbeddedTemporal;
  /** Temporary folder of this call, for whatever else the test writes. */
  readonly folder: string;
  /** Stops the servers and removes the folder. */
  stop(): Promise<void>;
}

/** Starts both servers, at the same time. */
export async function startTestServers(): Promise<TestServers> {
  const folder = mkdtempSync(path.join(tmpdir(), 'errata-test-'));
  const started = await Promise.allSettled([startTestKafka(folder), startTestTemporal(folder)]);
  const [kafka, temporal] = started;
  if (kafka.status === 'rejected' || temporal.status === 'rejected') {
    for (const server of started) if (server.status === 'fulfilled') await server.value.stop();
    rmSync(folder, { recursive: true, force: true });
    throw kafka.status === 'rejected' ? kafka.reason : (temporal as PromiseRejectedResult).reason;
  }
  return {
    kafka: kafka.value,
    temporal: temporal.value,
    folder,
    async stop() {
      await Promise.all([kafka.value.stop(), temporal.value.stop()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A broker with its data in `folder`/kafka; the caller stops it. */
export async function startTestKafka(folder: string): Promise<EmbeddedKafka> {
  const data = path.join(folder, 'kafka');
  killOnExit(data);
  return startEmbeddedKafka({ folder: data, libs: homeFromEnvironment().kafka.libs });
}

/** A Temporal server with its history in `folder`/temporal; the caller stops it. */
export async function startTestTemporal(folder: string): Promise<EmbeddedTemporal> {
  const data = path.join(folder, 'temporal');
  killOnExit(data);
  return startEmbeddedTemporal({
    folder: data,
    executable: homeFromEnvironment().temporal.executable,
  });
}

/**
 * A test file that is cut off never reaches its `stop`; without this its server would outlive it.
 */
export function killOnExit(data: string): void {
  process.once('exit', () => {
    const running = runningServer(data);
    if (running !== undefined) process.kill(running.pid, 'SIGKILL');
  });
  for (const end of ['SIGINT', 'SIGTERM', 'disconnect'] as const) {
    if (process.listenerCount(end, exitNow) === 0) process.once(end, exitNow);
  }
}

function exitNow(): void {
  process.exit(1);
}
