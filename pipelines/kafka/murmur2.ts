/**
 * Computes the hash by which Java's producer chooses a key's partition: 32-bit MurmurHash2, signed,
 * with its own seed (org.apache.kafka.common.utils.Utils.murmur2). In kafkajs its time grows with
 * the square of the key's length: a key of a megabyte would block a process for a minute.
 */
export function murmur2(key: Uint8Array): number {
  const whole = key.length & ~3;
  let hash = SEED ^ key.length;
  for (let at = 0; at < whole; at += 4) {
    let part = key[at]! | (key[at + 1]! << 8) | (key[at + 2]! << 16) | (key[at + 3]! << 24);
    part = Math.imul(part, MULTIPLIER);
    part = Math.imul(part ^ (part >>> 24), MULTIPLIER);
    hash = Math.imul(hash, MULTIPLIER) ^ part;
  }
  if (whole < key.length) {
    for (let at = key.length - 1; at >= whole; at--) hash ^= key[at]! << (8 * (at - whole));
    hash = Math.imul(hash, MULTIPLIER);
  }
  hash = Math.imul(hash ^ (hash >>> 13), MULTIPLIER);
  return hash ^ (hash >>> 15);
}

/** Returns the partition that Java's producer would choose for the key. */
export function partitionOf(key: Uint8Array, partitions: number): number {
  return (murmur2(key) & 0x7fffffff) % partitions;
}

const SEED = 0x9747b28c;
const MULTIPLIER = 0x5bd1e995;
