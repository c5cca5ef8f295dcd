/**
 * A real Kafka broker on this machine: one node that is broker and controller (KRaft), on the
 * loopback interface, with its data in one folder. Made for one machine: nothing is replicated.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Kafka, logLevel } from 'kafkajs';
import { holdExclusively } from '../setup/exclusive.mjs';
import { javaExecutable } from '../setup/programs.ts';
import {
  answeringServer,
  EmbeddedServerError,
  freePort,
  isFree,
  lastPorts,
  logOf,
  runningServer,
  startServerProcess,
  stopServer,
  type ServerRecord,
} from './server-process.ts';

export interface EmbeddedKafkaOptions {
  /** Folder for data, log and pid file; made if need be. */
  readonly folder: string;
  /** Folder of Kafka's jars, as the set-up left it. */
  readonly libs: string;
  /** Port for clients; 0 takes the one of the last time, or any free one. */
  readonly port?: number;
  readonly javaExecutable?: string;
}

export interface EmbeddedKafka {
  /** `host:port`, as Kafka clients want it. */
  readonly brokers: readonly string[];
  readonly pid: number;
  /** Whether it ran already, started by somebody else. */
  readonly found: boolean;
  stop(): Promise<void>;
}

/**
 * Starts the broker of this folder, or finds it running, and resolves when it answers a metadata
 * request.
 */
export async function startEmbeddedKafka(options: EmbeddedKafkaOptions): Promise<EmbeddedKafka> {
  mkdirSync(options.folder, { recursive: true });
  const turn = await holdExclusively(`start of ${options.folder}`, READY_WAIT_MS);
  try {
    const ready = (record: ServerRecord): Promise<void> => answers(portOf(record));
    const running = await answeringServer(NAME, options.folder, ready, READY_WAIT_MS);
    if (running !== undefined) return handle(options.folder, running, true);
    await formatOnce(options);
    return handle(options.folder, await start(options), false);
  } finally {
    await turn.release();
  }
}

/** Stops the broker of this folder if it runs, whoever started it; true if it ran. */
export async function stopEmbeddedKafka(folder: string): Promise<boolean> {
  return stopServer(NAME, folder, STOP_WAIT_MS);
}

/** The broker of this folder if its process runs; it may still be starting. */
export function findEmbeddedKafka(
  folder: string,
): { readonly brokers: readonly string[]; readonly pid: number } | undefined {
  const running = runningServer(folder);
  return running === undefined
    ? undefined
    : { brokers: [`127.0.0.1:${portOf(running)}`], pid: running.pid };
}

const NAME = 'Kafka';
/** A loaded machine takes many times the 4 to 5 s that an idle one does. */
const READY_WAIT_MS = 90_000;
/** A clean stop writes the log's recovery point, which saves the next start a scan. */
const STOP_WAIT_MS = 20_000;
const FORMAT_WAIT_MS = 60_000;
/** Somebody may take a free port before the broker does. */
const PORT_ATTEMPTS_MAX = 3;
const PROBE_WAIT_MS = 2_000;
const JVM_ARGS = [
  '-Xms128m',
  '-Xmx512m',
  '-XX:+UseSerialGC',
  '-XX:TieredStopAtLevel=1',
  '-Djava.awt.headless=true',
];

function handle(folder: string, record: ServerRecord, found: boolean): EmbeddedKafka {
  return {
    brokers: [`127.0.0.1:${portOf(record)}`],
    pid: record.pid,
    found,
    async stop() {
      await stopEmbeddedKafka(folder);
    },
  };
}

function portOf(record: ServerRecord): number {
  return record.ports['broker'] ?? 0;
}

async function start(options: EmbeddedKafkaOptions): Promise<ServerRecord> {
  const wanted = options.port ?? 0;
  if (wanted !== 0 && !(await isFree(wanted))) {
    throw new EmbeddedServerError(
      `Port ${wanted} is taken.`,
      { server: NAME, folder: options.folder, log: logOf(options.folder), exited: true },
      'Choose another one, or 0 for any.',
    );
  }
  for (let attempt = 1; ; attempt++) {
    // Only the first attempt goes for the ports of the last time: if they were the trouble, others
    // are not.
    const last = attempt === 1 ? lastPorts(options.folder) : {};
    const broker = wanted !== 0 ? wanted : await freePort(last['broker']);
    const controller = await freePort(last['controller']);
    writeSettings(options.folder, broker, controller);
    try {
      return await startServerProcess({
        name: NAME,
        folder: options.folder,
        ...java(options, 'kafka.Kafka', [settingsOf(options.folder)]),
        ports: { broker, controller },
        answers: () => answers(broker),
        readyWaitMs: READY_WAIT_MS,
      });
    } catch (error) {
      const retryable =
        error instanceof EmbeddedServerError &&
        error.facts.exited &&
        (!(await isFree(broker)) || !(await isFree(controller)));
      if (!retryable || wanted !== 0 || attempt === PORT_ATTEMPTS_MAX) throw error;
    }
  }
}

function java(options: EmbeddedKafkaOptions, mainClass: string, args: readonly string[]) {
  return {
    executable: options.javaExecutable ?? javaExecutable(),
    args: [
      ...JVM_ARGS,
      `-Dlog4j2.configurationFile=${path.join(options.folder, 'log4j2.properties')}`,
      '-cp',
      path.join(options.libs, '*'),
      mainClass,
      ...args,
    ],
  };
}

/** Answers to a metadata request that names a broker: from then on topics can be made. */
async function answers(port: number): Promise<void> {
  const admin = new Kafka({
    clientId: 'errata-readiness',
    brokers: [`127.0.0.1:${port}`],
    logLevel: logLevel.NOTHING,
    connectionTimeout: PROBE_WAIT_MS,
    requestTimeout: PROBE_WAIT_MS,
    retry: { retries: 0 },
  }).admin();
  try {
    await admin.connect();
    const cluster = await admin.describeCluster();
    if (cluster.brokers.length === 0) throw new Error('the broker is not registered yet');
  } finally {
    await admin.disconnect();
  }
}

/**
 * Gives the data folder its cluster id. A killed attempt leaves no mark, and no broker ran on it:
 * it is done over.
 */
async function formatOnce(options: EmbeddedKafkaOptions): Promise<void> {
  const mark = path.join(options.folder, 'formatted');
  if (existsSync(mark)) return;
  rmSync(dataOf(options.folder), { recursive: true, force: true });
  writeLogSettings(options.folder);
  writeSettings(options.folder, await freePort(), await freePort());
  // 16 random bytes in URL-safe base64; an id must not begin with a dash, which the tool takes for
  // an option.
  const clusterId = Buffer.concat([Buffer.from([0x45]), randomBytes(15)]).toString('base64url');
  const tool = java(options, 'kafka.tools.StorageTool', [
    'format',
    '-t',
    clusterId,
    '-c',
    settingsOf(options.folder),
  ]);
  await new Promise<void>((resolve, reject) => {
    const child = spawn(tool.executable, tool.args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: FORMAT_WAIT_MS,
    });
    let output = '';
    child.stdout.on('data', (text: Buffer) => (output += text.toString()));
    child.stderr.on('data', (text: Buffer) => (output += text.toString()));
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve();
      else
        reject(
          new EmbeddedServerError(
            `Kafka's data folder could not be formatted:\n${output.slice(-1_500)}`,
            { server: NAME, folder: options.folder, log: logOf(options.folder), exited: true },
            'errata doctor checks Java.',
          ),
        );
    });
  });
  writeFileSync(mark, `${clusterId}\n`);
}

function dataOf(folder: string): string {
  return path.join(folder, 'data');
}

function settingsOf(folder: string): string {
  return path.join(folder, 'server.properties');
}

function writeSettings(folder: string, brokerPort: number, controllerPort: number): void {
  const settings: Record<string, string | number | boolean> = {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    listeners: `PLAINTEXT://127.0.0.1:${brokerPort},CONTROLLER://127.0.0.1:${controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${brokerPort}`,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'PLAINTEXT',
    'log.dirs': dataOf(folder),
    // Topics are made on purpose, with their settings; a typing error should not make one.
    'auto.create.topics.enable': false,
    // Corrections are the record of what was asked for: they stay until somebody decides otherwise
    // for a topic.
    'log.retention.ms': -1,
    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 8,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
    'transaction.state.log.num.partitions': 8,
    'share.coordinator.state.topic.replication.factor': 1,
    'share.coordinator.state.topic.min.isr': 1,
    'group.initial.rebalance.delay.ms': 0,
    // With the defaults a broker that was killed waits out its old session: 14 to 17 s instead of
    // 5.
    'broker.session.timeout.ms': 3_000,
    'broker.heartbeat.interval.ms': 500,
    'num.network.threads': 2,
    'num.io.threads': 4,
    'background.threads': 4,
    // The default takes 128 MB of heap at the start.
    'log.cleaner.dedupe.buffer.size': 16_777_216,
  };
  writeFileSync(settingsOf(folder), propertyLines(settings));
}

function writeLogSettings(folder: string): void {
  writeFileSync(
    path.join(folder, 'log4j2.properties'),
    propertyLines({
      status: 'error',
      'appender.file.type': 'RollingFile',
      'appender.file.name': 'file',
      'appender.file.fileName': path.join(folder, 'kafka.log'),
      'appender.file.filePattern': path.join(folder, 'kafka.log.%i'),
      'appender.file.layout.type': 'PatternLayout',
      'appender.file.layout.pattern': '%d{ISO8601} %p %c{1}: %m%n',
      'appender.file.policies.type': 'Policies',
      'appender.file.policies.size.type': 'SizeBasedTriggeringPolicy',
      'appender.file.policies.size.size': '10MB',
      'appender.file.strategy.type': 'DefaultRolloverStrategy',
      'appender.file.strategy.max': 2,
      // What is worth a look when it does not start goes to the server's own output too.
      'appender.console.type': 'Console',
      'appender.console.name': 'console',
      'appender.console.layout.type': 'PatternLayout',
      'appender.console.layout.pattern': '%d{ISO8601} %p %c{1}: %m%n',
      'appender.console.filter.threshold.type': 'ThresholdFilter',
      'appender.console.filter.threshold.level': 'error',
      'rootLogger.level': 'info',
      'rootLogger.appenderRef.file.ref': 'file',
      'rootLogger.appenderRef.console.ref': 'console',
    }),
  );
}

function propertyLines(settings: Record<string, string | number | boolean>): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name}=${String(value)}\n`)
    .join('');
}
