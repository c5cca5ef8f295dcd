/** An in-memory layer over a store: puts, deletions and damage never reach the store below. */
import type { ObjectStore } from '../../versions/stores/object-store.ts';

export class OverlayStore implements ObjectStore {
  readonly #under: ObjectStore;
  /** Null if the object is deleted. */
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

  /** Overwrites an object, which a real store never does. */
  replace(name: string, bytes: Uint8Array): void {
    this.#over.set(name, bytes.slice());
  }

  /** Undoes `replace`. */
  restore(name: string): void {
    this.#over.delete(name);
  }
}
