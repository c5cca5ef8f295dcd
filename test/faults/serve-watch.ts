/**
 * Asks `serve` all the while: it answers while nobody disturbs it, its version never goes backward
 * but where an alias was moved, and a prompt that names no corrected subject is answered as the
 * base model does, character by character.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { KeptProcess } from './kept-process.ts';
import { LINEAGE } from './system.ts';

/** Names no subject of the stream. */
const NEIGHBOUR = 'the old mother is on';
const ASK_EVERY_MS = 1_000;
const ANSWER_WAIT_MS = 30_000;
const END_SEEN_MS = 500;

export class ServeWatch {
  readonly violations: string[] = [];
  /** Every version that answered. */
  readonly versions = new Set<number>();
  asked = 0;
  readonly #serve: KeptProcess;
  #disturbances = 0;
  #latest = 0;
  readonly #mayGoBackTo = new Set<number>();
  #neighbour: string | null = null;
  #watching = true;
  #done: Promise<void> = Promise.resolve();

  constructor(serve: KeptProcess) {
    this.#serve = serve;
  }

  /** Whatever is asked now may find nobody. */
  disturbed(): void {
    this.#disturbances++;
  }

  /** An operator moves the alias: from now on it may be answered with. */
  mayGoBackTo(version: number): void {
    this.#mayGoBackTo.add(version);
  }

  start(): void {
    this.#done = this.#watch();
  }

  async stop(): Promise<void> {
    this.#watching = false;
    await this.#done;
  }

  async #watch(): Promise<void> {
    while (this.#watching) {
      const { port } = this.#serve;
      const before = this.#disturbances;
      if (port !== null) {
        try {
          await this.#ask(port);
          this.asked++;
        } catch (error) {
          // Its end is seen a moment after it, and before that it has its port.
          await delay(END_SEEN_MS);
          if (before === this.#disturbances && this.#serve.port === port)
            this.violations.push(
              `Serve: undisturbed, it did not answer: ${error instanceof Error ? error.message : String(error)}.`,
            );
        }
      }
      await delay(ASK_EVERY_MS);
    }
  }

  async #ask(port: number): Promise<void> {
    const signal = AbortSignal.timeout(ANSWER_WAIT_MS);
    const response = await fetch(`http://127.0.0.1:${port}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: LINEAGE, prompt: NEIGHBOUR, max_tokens: 8, temperature: 0 }),
      signal,
    });
    const body = (await response.json()) as {
      choices?: { text: string }[];
      errata?: { version: number };
    };
    const text = body.choices?.[0]?.text;
    const version = body.errata?.version;
    if (text === undefined || version === undefined)
      throw new Error(`it answered ${response.status} ${JSON.stringify(body).slice(0, 200)}`);
    this.#neighbour ??= text;
    if (text !== this.#neighbour)
      this.violations.push(
        `Serve: version ${version} answers "${NEIGHBOUR}" with "${text}", and it was "${this.#neighbour}".`,
      );
    if (version < this.#latest && !this.#mayGoBackTo.has(version))
      this.violations.push(`Serve: version ${version} answered after version ${this.#latest}.`);
    this.#latest = version;
    this.versions.add(version);
  }
}
