/**
 * A real schema registry for tests: Apicurio Registry with Confluent's API, fetched once through
 * Maven and kept in the data folder. Its schemas survive a kill.
 */
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import {
  freePort,
  lastPorts,
  startServerProcess,
  stopServer,
} from '../../../infra/local/server-process.ts';
import { holdExclusively } from '../../../infra/setup/exclusive.mjs';
import { homeFromEnvironment } from '../../../infra/config/home.ts';
import { javaExecutable } from '../../../infra/setup/programs.ts';
import { runClient, verifySha256 } from '../../../infra/setup/provision/client-process.ts';
import { install, isInstalled } from '../../../infra/setup/provision/installation.ts';
import { MAVEN_DEPENDENCY_PLUGIN } from '../../../infra/setup/provision/pins.ts';
import { killOnExit, stopAfterwards } from './local.ts';

export interface TestRegistry {
  /** The address of Confluent's API. */
  readonly url: string;
  readonly pid: number;
  stop(): Promise<void>;
}

/** Downloads 142 MB the first time. */
export const REGISTRY_SETUP_WAIT_MS = 1_800_000;

/**
 * Starts the registry with its schemas in `folder`/registry, on its previous port if that is free.
 */
export async function startTestRegistry(folder: string): Promise<TestRegistry> {
  const data = path.join(folder, 'registry');
  mkdirSync(data, { recursive: true });
  killOnExit(data);
  const program = await installed();
  const port = await freePort(lastPorts(data)['http']);
  const url = `http://127.0.0.1:${port}/apis/ccompat/v7`;
  const { pid } = await startServerProcess({
    name: NAME,
    folder: data,
    executable: javaExecutable(),
    args: [
      '-Xms64m',
      '-Xmx512m',
      '-XX:+UseSerialGC',
      '-XX:TieredStopAtLevel=1',
      '-Dquarkus.http.host=127.0.0.1',
      `-Dquarkus.http.port=${port}`,
      '-jar',
      path.join(program, RUNNER),
    ],
    // A write delay would lose the last schemas before a kill.
    environment: {
      ...process.env,
      REGISTRY_DATASOURCE_URL: `jdbc:h2:file:${path.join(data, 'schemas')};WRITE_DELAY=0`,
    },
    ports: { http: port },
    answers: async () => {
      const response = await fetch(`${url}/subjects`, {
        signal: AbortSignal.timeout(PROBE_WAIT_MS),
      });
      if (!response.ok) throw new Error(`it answers ${response.status}`);
    },
    readyWaitMs: READY_WAIT_MS,
  });
  const stop = async () => void (await stopServer(NAME, data, STOP_WAIT_MS));
  stopAfterwards(data, stop);
  return { url, pid, stop };
}

const NAME = 'Apicurio Registry';
/** The last release line that runs on Java 17 and is smaller than 150 MB. */
const VERSION = '2.6.13.Final';
const ARTIFACT = 'apicurio-registry-app';
const ARCHIVE = `${ARTIFACT}-${VERSION}-all.tar.gz`;
const ARCHIVE_SHA256 = '3cda1b34aa020fb4ac4dd6a66018d757e81e437f97e20a1f92d366b70091c6ba';
const RUNNER = `${ARTIFACT}-${VERSION}-runner.jar`;
const READY_WAIT_MS = 90_000;
const STOP_WAIT_MS = 5_000;
const PROBE_WAIT_MS = 2_000;

async function installed(): Promise<string> {
  const home = homeFromEnvironment();
  const folder = path.join(home.root, 'test-schema-registry', VERSION);
  const stamp = { [ARCHIVE]: ARCHIVE_SHA256 };
  const turn = await holdExclusively(`set-up of ${folder}`, REGISTRY_SETUP_WAIT_MS);
  try {
    if (!isInstalled(folder, stamp)) await install(home, folder, stamp, fill);
  } finally {
    await turn.release();
  }
  return folder;
}

async function fill(folder: string): Promise<void> {
  const artifact = `io.apicurio:${ARTIFACT}:${VERSION}:tar.gz:all`;
  await runClient({
    executable: 'mvn',
    args: [
      '--batch-mode',
      `${MAVEN_DEPENDENCY_PLUGIN}:copy`,
      `-Dartifact=${artifact}`,
      `-DoutputDirectory=${folder}`,
    ],
    folder,
    waitMs: REGISTRY_SETUP_WAIT_MS,
    hint:
      `Try "mvn dependency:get -Dartifact=${artifact}" by hand; ` +
      'Maven takes mirrors and proxies from its settings.xml.',
  });
  const archive = path.join(folder, ARCHIVE);
  await verifySha256(archive, ARCHIVE_SHA256);
  await runClient({
    executable: 'tar',
    args: ['-xzf', archive, '-C', folder],
    folder,
    waitMs: REGISTRY_SETUP_WAIT_MS,
    hint: 'Is the disk full?',
  });
  rmSync(archive);
}
