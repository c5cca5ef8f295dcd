/**
 * A store over another that is never written: what is put, deleted or damaged here is seen here
 * alone.
 */
import type { ObjectStore } from '../../versions/stores/object-store.ts';

export class OverlayStore implements ObjectStore {
  readonly #under: ObjectStore;
  /** Null: deleted. */
  readonly #over = new Map<string, Uint8Array | null>();

  constructor(under: ObjectStore) {
    this.#under = under;
  }

  async get(name: string): Promise<Uint8Array | null> {
    const over = this.#over.get(name);
    return over === undefined ? await this.#under.get(name) : (over?.slice() ?? null);
  }

  async *list(prefix: string): AsyncIterable<string> {
    const names = [...this.#over]
      .filter(([name, bytes]) => bytes !== null && name.startsWith(prefix))
      .map(([name]) => name);
    for await (const name of this.#under.list(prefix)) if (!this.#over.has(name)) names.push(name);
    yield* names.sort();
  }

  async putIfAbsent(name: string, bytes: Uint8Array): Promise<'stored' | 'exists'> {
    if ((await this.get(name)) !== null) return 'exists';
    this.#over.set(name, bytes.slice());
    return 'stored';
  }

  async delete(name: string): Promise<void> {
    this.#over.set(name, null);
  }

  /** Puts other bytes in an object's place, which no store does. */
  replace(name: string, bytes: Uint8Array): void {
    this.#over.set(name, bytes.slice());
  }

  /** As it was before `replace`. */
  restore(name: string): void {
    this.#over.delete(name);
  }
}
