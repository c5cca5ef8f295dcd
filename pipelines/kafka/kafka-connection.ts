/** The configuration of a kafkajs client, and the connections to its brokers. */
import { logLevel, type ISocketFactory, type KafkaConfig, type SASLOptions } from 'kafkajs';
import net from 'node:net';
import tls from 'node:tls';
import type { Logger } from '../logger.ts';
import { refusalOf, type Channel, type ChannelRefused } from '../refused-channel.ts';

export interface KafkaSettings {
  brokers: string[];
  clientId: string;
  /** Null: plain text. PEM texts, not paths; without `ca`, Node's own list of authorities. */
  tls: { ca?: string; certificate?: string; key?: string } | null;
  sasl: {
    mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
    username: string;
    password: string;
  } | null;
}

const CONNECT_WAIT_MS = 5_000;
const REQUEST_WAIT_MS = 30_000;
export const RETRY_WAIT_MS = 200;
const RETRY_WAIT_MAX_MS = 5_000;
const RETRIES_MAX = 12;
const KEEP_ALIVE_MS = 60_000;

export function clientConfiguration(
  settings: KafkaSettings,
  connections: BrokerConnections,
  logger: Logger,
): KafkaConfig {
  const { sasl } = settings;
  return {
    clientId: settings.clientId,
    brokers: settings.brokers,
    connectionTimeout: CONNECT_WAIT_MS,
    requestTimeout: REQUEST_WAIT_MS,
    retry: {
      initialRetryTime: RETRY_WAIT_MS,
      maxRetryTime: RETRY_WAIT_MAX_MS,
      retries: RETRIES_MAX,
    },
    socketFactory: connections.open,
    ...(settings.tls === null ? {} : { ssl: true }),
    ...(sasl === null ? {} : { sasl: sasl as SASLOptions }),
    logLevel: logLevel.WARN,
    // kafkajs recovers from most of the events that it logs as errors: broken connections,
    // rebalances.
    logCreator:
      () =>
      ({ namespace, log }) => {
        const { message, timestamp: _timestamp, logger: _logger, ...fields } = log;
        logger.warn({ namespace, detail: message, ...fields }, 'Kafka client reports');
      },
  };
}

/**
 * Recognises refusals among failed connections. kafkajs treats every broken connection as an outage
 * and retries for minutes, but a certificate that all named brokers refuse stays refused.
 */
export class BrokerConnections {
  readonly #channel: Channel;
  readonly #named: ReadonlySet<string>;
  readonly #refused = new Map<string, ChannelRefused>();
  readonly #waiting = new Set<(refusal: ChannelRefused) => void>();
  readonly open: ISocketFactory;

  /** Throws `ChannelRefused` for a certificate and key that do not match. */
  constructor(settings: KafkaSettings) {
    this.#channel = {
      to: 'Kafka',
      tls: settings.tls !== null,
      certificate: settings.tls?.certificate !== undefined,
      credential: settings.sasl !== null,
    };
    this.#named = new Set(settings.brokers);
    const secureContext = settings.tls === null ? undefined : this.#contextOf(settings.tls);
    this.open = ({ host, port, onConnect }) => {
      const servername = net.isIP(host) === 0 ? { servername: host } : {};
      const socket =
        secureContext === undefined
          ? net.connect({ host, port }, onConnect)
          : tls.connect({ host, port, secureContext, ...servername }, onConnect);
      const broker = `${host}:${port}`;
      socket.once('data', () => this.#refused.delete(broker));
      socket.on('error', (error: Error) => this.#noteFailure(broker, error));
      return socket.setKeepAlive(true, KEEP_ALIVE_MS);
    };
  }

  /** Awaits a connection. Throws `ChannelRefused` once every named broker has refused. */
  async establish(connecting: Promise<void>): Promise<void> {
    let giveUp: (refusal: ChannelRefused) => void = () => undefined;
    const refused = new Promise<never>((_, reject) => (giveUp = reject));
    this.#waiting.add(giveUp);
    try {
      await Promise.race([connecting, refused]);
    } catch (error) {
      throw refusalOf(error, this.#channel) ?? error;
    } finally {
      this.#waiting.delete(giveUp);
    }
  }

  /** Explains an error of an established connection. In plain text a broken one is an outage. */
  explained(error: unknown): unknown {
    const { tls: isEncrypted, credential } = this.#channel;
    return isEncrypted || credential ? (refusalOf(error, this.#channel) ?? error) : error;
  }

  #noteFailure(broker: string, error: Error): void {
    const refusal = refusalOf(error, this.#channel, 'sure');
    if (refusal === null || !this.#named.has(broker)) return;
    this.#refused.set(broker, refusal);
    if (this.#refused.size === this.#named.size)
      for (const giveUp of this.#waiting) giveUp(refusal);
  }

  #contextOf({ ca, certificate, key }: NonNullable<KafkaSettings['tls']>): tls.SecureContext {
    try {
      return tls.createSecureContext({
        ...(ca === undefined ? {} : { ca }),
        ...(certificate === undefined ? {} : { cert: certificate }),
        ...(key === undefined ? {} : { key }),
      });
    } catch (error) {
      throw refusalOf(error, this.#channel) ?? error;
    }
  }
}
