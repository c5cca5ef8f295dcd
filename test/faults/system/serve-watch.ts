/**
 * Queries `serve` throughout a run. It must answer while it is undisturbed; its version may go back
 * only to the target of an alias move; a prompt without a corrected subject must get the base
 * model's answer.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { complete } from './answers.ts';
import type { KeptProcess } from './kept-process.ts';
import { LINEAGE } from './system.ts';

/** A prompt without a subject of the stream. */
const NEIGHBOUR = 'the old mother is on';
const ASK_EVERY_MS = 1_000;
const ANSWER_WAIT_MS = 30_000;
const END_SEEN_MS = 500;

export class ServeWatch {
  readonly violations: string[] = [];
  /** All versions that answered. */
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

  /** Allows `serve` to miss an answer for a moment. */
  disturbed(): void {
    this.#disturbances++;
  }

  /** Records that an operator moves the alias to this version. */
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
          // The end of a process is noticed a moment later; until then its port stays set.
          await delay(END_SEEN_MS);
          if (before === this.#disturbances && this.#serve.port === port)
            this.violations.push(`Serve: undisturbed, it did not answer: ${String(error)}.`);
        }
      }
      await delay(ASK_EVERY_MS);
    }
  }

  async #ask(port: number): Promise<void> {
    const request = { port, model: LINEAGE, prompt: NEIGHBOUR, tokensMax: 8 };
    const { text, version } = await complete(request, ANSWER_WAIT_MS);
    this.#neighbour ??= text;
    if (text !== this.#neighbour)
      this.violations.push(
        `Serve: version ${version} answers "${NEIGHBOUR}" with "${text}", ` +
          `and before with "${this.#neighbour}".`,
      );
    if (version < this.#latest && !this.#mayGoBackTo.has(version))
      this.violations.push(`Serve: version ${version} answered after version ${this.#latest}.`);
    this.#latest = version;
    this.versions.add(version);
  }
}
