/**
 * Sends the stream in small bursts over the given time. Records that Kafka did not acknowledge are
 * sent again, which may duplicate them; the system must cope with that.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Kafka, Partitioners, logLevel, type Producer } from 'kafkajs';
import type { StreamRecord } from './known-stream.ts';

const BURST_MAX = 16;
const TRY_AGAIN_MS = 1_000;

export class StreamSender {
  readonly #producer: Producer;
  readonly #topic: string;
  readonly #random: () => number;
  #closed = false;

  constructor(brokers: string[], topic: string, random: () => number) {
    this.#producer = new Kafka({
      clientId: 'known-stream',
      brokers,
      logLevel: logLevel.NOTHING,
      connectionTimeout: 3_000,
      requestTimeout: 10_000,
      retry: { retries: 3 },
    }).producer({ createPartitioner: Partitioners.DefaultPartitioner });
    this.#topic = topic;
    this.#random = random;
  }

  /**
   * Resolves to the number of records that Kafka acknowledged: all, unless the sender is closed.
   */
  async send(stream: readonly StreamRecord[], durationMs: number): Promise<number> {
    await this.#producer.connect();
    const began = Date.now();
    for (let at = 0; at < stream.length;) {
      const burst = stream.slice(at, at + 1 + Math.floor(this.#random() * BURST_MAX));
      const dueAt = began + (durationMs * at) / stream.length;
      await delay(Math.max(0, dueAt - Date.now()));
      if (this.#closed) return at;
      await this.#sendUntilAcknowledged(burst);
      at += burst.length;
    }
    return stream.length;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#producer.disconnect();
  }

  async #sendUntilAcknowledged(burst: readonly StreamRecord[]): Promise<void> {
    const messages = burst.map(({ key, value, timestamp }) => ({
      key,
      value,
      timestamp: String(timestamp),
    }));
    for (;;) {
      try {
        await this.#producer.send({ topic: this.#topic, acks: -1, messages });
        return;
      } catch {
        if (this.#closed) return;
        await delay(TRY_AGAIN_MS);
      }
    }
  }
}
