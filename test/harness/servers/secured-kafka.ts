/**
 * A real broker as others run theirs: TLS and SASL for its clients. One broker with a listener for
 * each way in; its plain one is for itself and for asking whether it is up.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Kafka, logLevel } from 'kafkajs';
import {
  freePort,
  runningServer,
  startServerProcess,
  stopServer,
} from '../../../infra/local/server-process.ts';
import { homeFromEnvironment } from '../../../infra/config/home.ts';
import { javaExecutable } from '../../../infra/setup/programs.ts';
import type { Authority } from './certificates.ts';

export interface SecuredKafka {
  /**
   * `localhost:port` of the listener that asks for a user over TLS (SASL_SSL: PLAIN, SCRAM-SHA-256,
   * SCRAM-SHA-512).
   */
  readonly users: string;
  /** The one that asks for a client certificate (mTLS). */
  readonly certificates: string;
  /** The one that asks for nothing. */
  readonly plain: string;
  stop(): Promise<void>;
}

/** The user that the broker knows, by any of its mechanisms. */
export const USER = 'errata-user';

/** Starts it with its data in `folder`/secured-kafka; the caller stops it. */
export async function startSecuredKafka(
  folder: string,
  authority: Authority,
  password: string,
): Promise<SecuredKafka> {
  const data = path.join(folder, 'secured-kafka');
  mkdirSync(data, { recursive: true });
  const [plain, controller, users, certificates] = [
    await freePort(),
    await freePort(),
    await freePort(),
    await freePort(),
  ];
  const server = authority.certify('localhost');
  const file = (name: string, content: string): string => {
    writeFileSync(path.join(data, name), content);
    return path.join(data, name);
  };
  const settings = {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controller}`,
    listeners: `PLAIN://127.0.0.1:${plain},CONTROLLER://127.0.0.1:${controller},USERS://127.0.0.1:${users},CERTIFICATES://127.0.0.1:${certificates}`,
    'advertised.listeners': `PLAIN://127.0.0.1:${plain},USERS://localhost:${users},CERTIFICATES://localhost:${certificates}`,
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
    'listener.name.users.plain.sasl.jaas.config': `org.apache.kafka.common.security.plain.PlainLoginModule required user_${USER}="${password}";`,
    'listener.name.users.scram-sha-256.sasl.jaas.config':
      'org.apache.kafka.common.security.scram.ScramLoginModule required;',
    'listener.name.users.scram-sha-512.sasl.jaas.config':
      'org.apache.kafka.common.security.scram.ScramLoginModule required;',
  };
  const properties = file('server.properties', propertyLines(settings));
  const logging = file(
    'log4j2.properties',
    propertyLines({
      'rootLogger.level': 'warn',
      'rootLogger.appenderRef.console.ref': 'console',
      'appender.console.type': 'Console',
      'appender.console.name': 'console',
      'appender.console.layout.type': 'PatternLayout',
      'appender.console.layout.pattern': '%d{ISO8601} %p %c{1}: %m%n',
    }),
  );
  const java = [
    '-Xmx512m',
    '-XX:+UseSerialGC',
    '-XX:TieredStopAtLevel=1',
    `-Dlog4j2.configurationFile=${logging}`,
    '-cp',
    path.join(homeFromEnvironment().kafka.libs, '*'),
  ];
  const clusterId = Buffer.concat([Buffer.from([0x45]), randomBytes(15)]).toString('base64url');
  const scram = ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((mechanism) => [
    '--add-scram',
    `${mechanism}=[name=${USER},password=${password}]`,
  ]);
  const formatted = spawnSync(
    javaExecutable(),
    [...java, 'kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', properties, ...scram],
    { encoding: 'utf8' },
  );
  if (formatted.status !== 0)
    throw new Error(
      `The broker's folder could not be formatted:\n${formatted.stdout}${formatted.stderr}`,
    );

  process.once('exit', () => {
    const running = runningServer(data);
    if (running !== undefined) process.kill(running.pid, 'SIGKILL');
  });
  await startServerProcess({
    name: 'Kafka',
    folder: data,
    executable: javaExecutable(),
    args: [...java, 'kafka.Kafka', properties],
    ports: { plain, users, certificates },
    answers: () => answers(plain),
    readyWaitMs: 120_000,
  });
  return {
    users: `localhost:${users}`,
    certificates: `localhost:${certificates}`,
    plain: `127.0.0.1:${plain}`,
    async stop() {
      await stopServer('Kafka', data, 20_000);
    },
  };
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
