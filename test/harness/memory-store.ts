/** An object store in memory that keeps the contract, for tests of the code above it. */
import {
  checkObjectBytes,
  checkObjectName,
  checkObjectPrefix,
  type ObjectStore,
} from '../../versions/stores/object-store.ts';

export class MemoryStore implements ObjectStore {
  readonly objects = new Map<string, Uint8Array>();

  async get(name: string): Promise<Uint8Array | null> {
    checkObjectName(name);
    return this.objects.get(name)?.slice() ?? null;
  }

  async *list(prefix: string): AsyncIterable<string> {
    checkObjectPrefix(prefix);
    yield* [...this.objects.keys()].filter((name) => name.startsWith(prefix)).sort();
  }

  async putIfAbsent(name: string, bytes: Uint8Array): Promise<'stored' | 'exists'> {
    checkObjectName(name);
    checkObjectBytes(name, bytes.byteLength);
    if (this.objects.has(name)) return 'exists';
    this.objects.set(name, bytes.slice());
    return 'stored';
  }

  async delete(name: string): Promise<void> {
    checkObjectName(name);
    this.objects.delete(name);
  }
}
