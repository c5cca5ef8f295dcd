/**
 * Real servers for a test: their own data in a folder, their own free ports, stopped afterwards.
 * They use only the provisioned parts of the data folder (`npm test` provisions them first).
 */
import path from 'node:path';
import { homeFromEnvironment } from '../../../infra/config/home.ts';
import { startEmbeddedKafka, type EmbeddedKafka } from '../../../infra/local/kafka.ts';
import { runningServer } from '../../../infra/local/server-process.ts';
import { startEmbeddedTemporal, type EmbeddedTemporal } from '../../../infra/local/temporal.ts';
import { afterwards, testFolder } from '../clean-up.ts';

export interface TestServers {
  readonly kafka: EmbeddedKafka;
  readonly temporal: EmbeddedTemporal;
  /** The folder of the servers' data; a test may write there as well. */
  readonly folder: string;
  stop(): Promise<void>;
}

/** Starts both servers concurrently. */
export async function startTestServers(): Promise<TestServers> {
  const folder = testFolder();
  const [kafka, temporal] = await Promise.all([startTestKafka(folder), startTestTemporal(folder)]);
  const stop = async () => void (await Promise.all([kafka.stop(), temporal.stop()]));
  return { kafka, temporal, folder, stop };
}

/** Starts a broker with its data in `folder`/kafka, and reuses the data of a killed one. */
export async function startTestKafka(folder: string): Promise<EmbeddedKafka> {
  const data = path.join(folder, 'kafka');
  killOnExit(data);
  const kafka = await startEmbeddedKafka({ folder: data, libs: homeFromEnvironment().kafka.libs });
  stopAfterwards(data, () => kafka.stop());
  return kafka;
}

/** Starts a Temporal server with its histories in `folder`/temporal. */
export async function startTestTemporal(folder: string): Promise<EmbeddedTemporal> {
  const data = path.join(folder, 'temporal');
  killOnExit(data);
  const { executable } = homeFromEnvironment().temporal;
  const temporal = await startEmbeddedTemporal({ folder: data, executable });
  stopAfterwards(data, () => temporal.stop());
  return temporal;
}

const stops = new Map<string, () => Promise<unknown>>();

/**
 * Stops the server of this data folder after the test or file that first started it: a restart
 * inside a later test does not shorten its life.
 */
export function stopAfterwards(data: string, stop: () => Promise<unknown>): void {
  if (!stops.has(data))
    afterwards(async () => {
      const latest = stops.get(data)!;
      stops.delete(data);
      await latest();
    });
  stops.set(data, stop);
}

/** Kills the server of this data folder if the test file is aborted before its clean-up. */
export function killOnExit(data: string): void {
  process.once('exit', () => {
    const running = runningServer(data);
    if (running !== undefined) process.kill(running.pid, 'SIGKILL');
  });
  for (const end of ['SIGINT', 'SIGTERM', 'disconnect'] as const)
    if (process.listenerCount(end, exitNow) === 0) process.once(end, exitNow);
}

function exitNow(): void {
  process.exit(1);
}
