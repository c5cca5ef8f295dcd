/**
 * A real broker with TLS and SASL: one listener per authentication method, and a plain one for the
 * broker itself.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Kafka, logLevel } from 'kafkajs';
import { freePort, startServerProcess, stopServer } from '../../../infra/local/server-process.ts';
import { homeFromEnvironment } from '../../../infra/config/home.ts';
import { javaExecutable } from '../../../infra/setup/programs.ts';
import type { Authority } from './certificates.ts';
import { killOnExit, stopAfterwards } from './local.ts';

export interface SecuredKafka {
  /** `localhost:port` that requires a user over TLS (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512). */
  readonly users: string;
  /** `localhost:port` that requires a client certificate (mTLS). */
  readonly certificates: string;
  /** The listener without authentication. */
  readonly plain: string;
}

/** The user that the broker knows, for every mechanism. */
export const USER = 'errata-user';

interface Ports {
  plain: number;
  controller: number;
  users: number;
  certificates: number;
}

/** Starts the broker with its data in `folder`/secured-kafka. */
export async function startSecuredKafka(
  folder: string,
  authority: Authority,
  password: string,
): Promise<SecuredKafka> {
  const data = path.join(folder, 'secured-kafka');
  mkdirSync(data, { recursive: true });
  killOnExit(data);
  const ports: Ports = {
    plain: await freePort(),
    controller: await freePort(),
    users: await freePort(),
    certificates: await freePort(),
  };
  const properties = path.join(data, 'server.properties');
  writeFileSync(properties, propertyLines(brokerSettings(data, ports, authority, password)));
  const logging = path.join(data, 'log4j2.properties');
  writeFileSync(logging, propertyLines(LOGGING));
  const java = [
    '-Xmx512m',
    '-XX:+UseSerialGC',
    '-XX:TieredStopAtLevel=1',
    `-Dlog4j2.configurationFile=${logging}`,
    '-cp',
    path.join(homeFromEnvironment().kafka.libs, '*'),
  ];
  format(java, properties, password);
  await startServerProcess({
    name: 'Kafka',
    folder: data,
    executable: javaExecutable(),
    args: [...java, 'kafka.Kafka', properties],
    ports: { plain: ports.plain, users: ports.users, certificates: ports.certificates },
    answers: () => answers(ports.plain),
    readyWaitMs: 120_000,
  });
  stopAfterwards(data, () => stopServer('Kafka', data, 20_000));
  return {
    users: `localhost:${ports.users}`,
    certificates: `localhost:${ports.certificates}`,
    plain: `127.0.0.1:${ports.plain}`,
  };
}

const LOGGING = {
  'rootLogger.level': 'warn',
  'rootLogger.appenderRef.console.ref': 'console',
  'appender.console.type': 'Console',
  'appender.console.name': 'console',
  'appender.console.layout.type': 'PatternLayout',
  'appender.console.layout.pattern': '%d{ISO8601} %p %c{1}: %m%n',
};

function brokerSettings(
  data: string,
  { plain, controller, users, certificates }: Ports,
  authority: Authority,
  password: string,
) {
  const server = authority.certify('localhost');
  const file = (name: string, content: string): string => {
    writeFileSync(path.join(data, name), content);
    return path.join(data, name);
  };
  const scram = 'org.apache.kafka.common.security.scram.ScramLoginModule required;';
  const plainLogin = 'org.apache.kafka.common.security.plain.PlainLoginModule required';
  return {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controller}`,
    listeners: [
      `PLAIN://127.0.0.1:${plain}`,
      `CONTROLLER://127.0.0.1:${controller}`,
      `USERS://127.0.0.1:${users}`,
      `CERTIFICATES://127.0.0.1:${certificates}`,
    ].join(),
    'advertised.listeners': [
      `PLAIN://127.0.0.1:${plain}`,
      `USERS://localhost:${users}`,
      `CERTIFICATES://localhost:${certificates}`,
    ].join(),
    'listener.security.protocol.map':
      'PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,USERS:SASL_SSL,CERTIFICATES:SSL',
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'PLAIN',
    'log.dirs': path.join(data, 'data'),
    'auto.create.topics.enable': false,
    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 4,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
    'group.initial.rebalance.delay.ms': 0,
    'log.cleaner.dedupe.buffer.size': 16_777_216,
    'ssl.keystore.type': 'PEM',
    'ssl.keystore.location': file('server.pem', server.key + server.certificate),
    'ssl.truststore.type': 'PEM',
    'ssl.truststore.location': file('authority.pem', authority.certificate),
    'listener.name.certificates.ssl.client.auth': 'required',
    'sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
    'listener.name.users.plain.sasl.jaas.config': `${plainLogin} user_${USER}="${password}";`,
    'listener.name.users.scram-sha-256.sasl.jaas.config': scram,
    'listener.name.users.scram-sha-512.sasl.jaas.config': scram,
  };
}

/** Writes the cluster's id and the users of SCRAM into the broker's folder. */
function format(java: string[], properties: string, password: string): void {
  const clusterId = Buffer.concat([Buffer.from([0x45]), randomBytes(15)]).toString('base64url');
  const scram = ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((mechanism) => [
    '--add-scram',
    `${mechanism}=[name=${USER},password=${password}]`,
  ]);
  const tool = ['kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', properties];
  const formatted = spawnSync(javaExecutable(), [...java, ...tool, ...scram], { encoding: 'utf8' });
  if (formatted.status !== 0)
    throw new Error(
      `The broker's folder could not be formatted:\n${formatted.stdout}${formatted.stderr}`,
    );
}

async function answers(port: number): Promise<void> {
  const admin = new Kafka({
    brokers: [`127.0.0.1:${port}`],
    logLevel: logLevel.NOTHING,
    connectionTimeout: 2_000,
    requestTimeout: 2_000,
    retry: { retries: 0 },
  }).admin();
  try {
    await admin.connect();
    if ((await admin.describeCluster()).brokers.length === 0)
      throw new Error('the broker is not registered yet');
  } finally {
    await admin.disconnect();
  }
}

function propertyLines(settings: Record<string, string | number | boolean>): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name}=${String(value)}\n`)
    .join('');
}
