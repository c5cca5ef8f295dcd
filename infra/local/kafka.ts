/**
 * A real Kafka broker on this machine: one node that is broker and controller (KRaft), on the
 * loopback interface, with its data in one folder. Nothing is replicated.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { Kafka, logLevel } from 'kafkajs';
import { javaExecutable } from '../setup/programs.ts';
import { failure, freePort, startOrFindServer, stopServer, type Ports } from './server-process.ts';

export interface EmbeddedKafkaOptions {
  /** Folder of data, log and server record. */
  readonly folder: string;
  /** Folder of Kafka's jars, filled by the set-up. */
  readonly libs: string;
  /** Client port; 0 takes the last one if it is free, else any. */
  readonly port?: number;
  /** Used if `port` is 0 and this one is free. */
  readonly preferredPort?: number;
}

export interface EmbeddedKafka {
  /** `host:port`, the form that Kafka clients expect. */
  readonly brokers: readonly string[];
  readonly pid: number;
  /** True if it was already running. */
  readonly found: boolean;
  stop(): Promise<void>;
}

const NAME = 'Kafka';
/** A loaded machine takes many times the 4 to 5 s of an idle one. */
const READY_WAIT_MS = 90_000;
/** A clean stop writes the log's recovery point, which saves the next start a scan. */
const STOP_WAIT_MS = 20_000;
const FORMAT_WAIT_MS = 60_000;
const PROBE_WAIT_MS = 2_000;
const OUTPUT_CHARACTERS_MAX = 1_500;
const JVM_ARGS = [
  '-Xms128m',
  '-Xmx512m',
  '-XX:+UseSerialGC',
  '-XX:TieredStopAtLevel=1',
  '-Djava.awt.headless=true',
];

/**
 * Starts this folder's broker, or finds it running; resolves when it answers a metadata request.
 * Throws `EmbeddedServerError`.
 */
export async function startEmbeddedKafka(options: EmbeddedKafkaOptions): Promise<EmbeddedKafka> {
  const { folder, port = 0, preferredPort = 0 } = options;
  const { pid, found, ports } = await startOrFindServer({
    name: NAME,
    folder,
    ports: { broker: port, controller: 0 },
    preferredPorts: { broker: preferredPort },
    readyWaitMs: READY_WAIT_MS,
    async command(ports) {
      await formatOnce(options);
      writeSettings(folder, ports);
      return java(options, 'kafka.Kafka', [settingsOf(folder)]);
    },
    answers,
  });
  return {
    brokers: [`127.0.0.1:${ports['broker']}`],
    pid,
    found,
    async stop() {
      await stopEmbeddedKafka(folder);
    },
  };
}

/** Stops this folder's broker, whoever started it; resolves to true if it was running. */
export async function stopEmbeddedKafka(folder: string): Promise<boolean> {
  return stopServer(NAME, folder, STOP_WAIT_MS);
}

function java({ folder, libs }: EmbeddedKafkaOptions, main: string, args: readonly string[]) {
  const logging = `-Dlog4j2.configurationFile=${path.join(folder, 'log4j2.properties')}`;
  return {
    executable: javaExecutable(),
    args: [...JVM_ARGS, logging, '-cp', path.join(libs, '*'), main, ...args],
  };
}

/** Resolves if metadata names a broker; topics can then be created. */
async function answers({ broker = 0 }: Ports): Promise<void> {
  const admin = new Kafka({
    clientId: 'errata-readiness',
    brokers: [`127.0.0.1:${broker}`],
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
 * Gives the data folder its cluster id. A killed attempt leaves no mark and never ran a broker, so
 * it is repeated from the start.
 */
async function formatOnce(options: EmbeddedKafkaOptions): Promise<void> {
  const { folder } = options;
  const mark = path.join(folder, 'formatted');
  if (existsSync(mark)) return;
  rmSync(dataOf(folder), { recursive: true, force: true });
  writeProperties(path.join(folder, 'log4j2.properties'), logSettings(folder));
  writeSettings(folder, { broker: await freePort(), controller: await freePort() });
  // 16 bytes in URL-safe base64; a leading dash would be parsed as an option.
  const clusterId = Buffer.concat([Buffer.from([0x45]), randomBytes(15)]).toString('base64url');
  const format = ['format', '-t', clusterId, '-c', settingsOf(folder)];
  const { executable, args } = java(options, 'kafka.tools.StorageTool', format);
  await promisify(execFile)(executable, args, { timeout: FORMAT_WAIT_MS }).catch(
    ({ message, stdout = '', stderr = '' }: Error & { stdout?: string; stderr?: string }) => {
      const output = `${message}\n${stdout}${stderr}`.slice(-OUTPUT_CHARACTERS_MAX);
      const reason = `Kafka's data folder could not be formatted:\n${output}`;
      throw failure({ name: NAME, folder }, reason, '`errata doctor` checks Java.');
    },
  );
  writeFileSync(mark, `${clusterId}\n`);
}

function dataOf(folder: string): string {
  return path.join(folder, 'data');
}

function settingsOf(folder: string): string {
  return path.join(folder, 'server.properties');
}

type Properties = Record<string, string | number | boolean>;

function writeProperties(file: string, properties: Properties): void {
  const lines = Object.entries(properties).map(([name, value]) => `${name}=${String(value)}\n`);
  writeFileSync(file, lines.join(''));
}

function writeSettings(folder: string, { broker, controller }: Ports): void {
  writeProperties(settingsOf(folder), {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controller}`,
    listeners: `PLAINTEXT://127.0.0.1:${broker},CONTROLLER://127.0.0.1:${controller}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${broker}`,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'PLAINTEXT',
    'log.dirs': dataOf(folder),
    // Topics are created explicitly, with their settings; a misspelt name must not create one.
    'auto.create.topics.enable': false,
    // Corrections record what was requested, so they are retained unless a topic overrides this.
    'log.retention.ms': -1,
    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 8,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
    'transaction.state.log.num.partitions': 8,
    'share.coordinator.state.topic.replication.factor': 1,
    'share.coordinator.state.topic.min.isr': 1,
    'group.initial.rebalance.delay.ms': 0,
    // With the defaults, a killed broker waits 14 to 17 s instead of 5 s for its old session to
    // end.
    'broker.session.timeout.ms': 3_000,
    'broker.heartbeat.interval.ms': 500,
    'num.network.threads': 2,
    'num.io.threads': 4,
    'background.threads': 4,
    // The default allocates 128 MB of heap at the start.
    'log.cleaner.dedupe.buffer.size': 16_777_216,
  });
}

function logSettings(folder: string): Properties {
  const pattern = '%d{ISO8601} %p %c{1}: %m%n';
  return {
    status: 'error',
    'appender.file.type': 'RollingFile',
    'appender.file.name': 'file',
    'appender.file.fileName': path.join(folder, 'kafka.log'),
    'appender.file.filePattern': path.join(folder, 'kafka.log.%i'),
    'appender.file.layout.type': 'PatternLayout',
    'appender.file.layout.pattern': pattern,
    'appender.file.policies.type': 'Policies',
    'appender.file.policies.size.type': 'SizeBasedTriggeringPolicy',
    'appender.file.policies.size.size': '10MB',
    'appender.file.strategy.type': 'DefaultRolloverStrategy',
    'appender.file.strategy.max': 2,
    // Errors also go to standard output, which is shown if the server does not start.
    'appender.console.type': 'Console',
    'appender.console.name': 'console',
    'appender.console.layout.type': 'PatternLayout',
    'appender.console.layout.pattern': pattern,
    'appender.console.filter.threshold.type': 'ThresholdFilter',
    'appender.console.filter.threshold.level': 'error',
    'rootLogger.level': 'info',
    'rootLogger.appenderRef.file.ref': 'file',
    'rootLogger.appenderRef.console.ref': 'console',
  };
}
