/**
 * GGML's storage types turned into float32. A quantised tensor is a row of blocks, each a few
 * scales and 32 or 256 packed integers; the layouts are those of ggml (ggml-quants.c and the `gguf`
 * Python package, whose results these loops reproduce bit for bit, products rounded to float32
 * before the sum).
 */

export interface StorageType {
  /** Elements of one block. */
  blockElements: number;
  /** Bytes of one block. */
  blockBytes: number;
  /** Writes `blocks` blocks that start at byte `at` of `bytes` into `out` from index `to` on. */
  decode(bytes: Uint8Array, at: number, blocks: number, out: Float32Array, to: number): void;
}

/** Storage types by ggml's number for them. */
export const storageTypes: ReadonlyMap<number, StorageType> = new Map([
  [0, { blockElements: 1, blockBytes: 4, decode: decodeF32 }],
  [1, { blockElements: 1, blockBytes: 2, decode: decodeF16 }],
  [2, { blockElements: 32, blockBytes: 18, decode: decodeQ4_0 }],
  [3, { blockElements: 32, blockBytes: 20, decode: decodeQ4_1 }],
  [6, { blockElements: 32, blockBytes: 22, decode: decodeQ5_0 }],
  [7, { blockElements: 32, blockBytes: 24, decode: decodeQ5_1 }],
  [8, { blockElements: 32, blockBytes: 34, decode: decodeQ8_0 }],
  [12, { blockElements: 256, blockBytes: 144, decode: decodeQ4_K }],
  [13, { blockElements: 256, blockBytes: 176, decode: decodeQ5_K }],
  [14, { blockElements: 256, blockBytes: 210, decode: decodeQ6_K }],
  [30, { blockElements: 1, blockBytes: 2, decode: decodeBF16 }],
]);

let halfTable: Float32Array | undefined;

/**
 * All 65,536 half-precision numbers as float32, indexed by their bits (256 KiB, made on first use).
 */
export function halves(): Float32Array {
  if (halfTable !== undefined) return halfTable;
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    if (exponent === 0) table[bits] = sign * fraction * 2 ** -24;
    else if (exponent === 31) table[bits] = fraction === 0 ? sign * Infinity : NaN;
    else table[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  halfTable = table;
  return table;
}

function decodeF32(
  bytes: Uint8Array,
  at: number,
  count: number,
  out: Float32Array,
  to: number,
): void {
  new Uint8Array(out.buffer, out.byteOffset + to * 4, count * 4).set(
    bytes.subarray(at, at + count * 4),
  );
}

function decodeF16(
  bytes: Uint8Array,
  at: number,
  count: number,
  out: Float32Array,
  to: number,
): void {
  const half = halves();
  for (let i = 0; i < count; i++, at += 2) out[to + i] = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
}

function decodeBF16(
  bytes: Uint8Array,
  at: number,
  count: number,
  out: Float32Array,
  to: number,
): void {
  const bits = new Uint32Array(out.buffer, out.byteOffset + to * 4, count);
  for (let i = 0; i < count; i++, at += 2) bits[i] = (bytes[at]! << 16) | (bytes[at + 1]! << 24);
}

/** d: f16; 16 bytes of two 4-bit integers; x = d (q - 8). */
function decodeQ4_0(
  bytes: Uint8Array,
  at: number,
  blocks: number,
  out: Float32Array,
  to: number,
): void {
  const half = halves();
  for (let block = 0; block < blocks; block++, at += 18, to += 32) {
    const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
    for (let j = 0; j < 16; j++) {
      const pair = bytes[at + 2 + j]!;
      out[to + j] = d * ((pair & 15) - 8);
      out[to + 16 + j] = d * ((pair >> 4) - 8);
    }
  }
}

/** d, m: f16; 16 bytes of two 4-bit integers; x = d q + m. */
function decodeQ4_1(
  bytes: Uint8Array,
  at: number,
  blocks: number,
  out: Float32Array,
  to: number,
): void {
  const half = halves();
  for (let block = 0; block < blocks; block++, at += 20, to += 32) {
    const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
    const m = half[bytes[at + 2]! | (bytes[at + 3]! << 8)]!;
    for (let j = 0; j < 16; j++) {
      const pair = bytes[at + 4 + j]!;
      out[to + j] = Math.fround(d * (pair & 15)) + m;
      out[to + 16 + j] = Math.fround(d * (pair >> 4)) + m;
    }
  }
}

/** d: f16; 32 fifth bits; 16 bytes of two 4-bit integers; x = d (q - 16). */
function decodeQ5_0(
  bytes: Uint8Array,
  at: number,
  blocks: number,
  out: Float32Array,
  to: number,
): void {
  const half = halves();
  for (let block = 0; block < blocks; block++, at += 22, to += 32) {
    const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
    const high =
      bytes[at + 2]! | (bytes[at + 3]! << 8) | (bytes[at + 4]! << 16) | (bytes[at + 5]! << 24);
    for (let j = 0; j < 16; j++) {
      const pair = bytes[at + 6 + j]!;
      out[to + j] = d * (((pair & 15) | (((high >>> j) & 1) << 4)) - 16);
      out[to + 16 + j] = d * (((pair >> 4) | (((high >>> (j + 16)) & 1) << 4)) - 16);
    }
  }
}

/** d, m: f16; 32 fifth bits; 16 bytes of two 4-bit integers; x = d q + m. */
function decodeQ5_1(
  bytes: Uint8Array,
  at: number,
  blocks: number,
  out: Float32Array,
  to: number,
): void {
  const half = halves();
  for (let block = 0; block < blocks; block++, at += 24, to += 32) {
    const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
    const m = half[bytes[at + 2]! | (bytes[at + 3]! << 8)]!;
    const high =
      bytes[at + 4]! | (bytes[at + 5]! << 8) | (bytes[at + 6]! << 16) | (bytes[at + 7]! << 24);
    for (let j = 0; j < 16; j++) {
      const pair = bytes[at + 8 + j]!;
      out[to + j] = Math.fround(d * ((pair & 15) | (((high >>> j) & 1) << 4))) + m;
      out[to + 16 + j] = Math.fround(d * ((pair >> 4) | (((high >>> (j + 16)) & 1) << 4))) + m;
    }
  }
}

/** d: f16; 32 signed bytes; x = d q. */
function decodeQ8_0(
  bytes: Uint8Array,
  at: number,
  blocks: number,
  out: Float32Array,
  to: number,
): void {
  const half = halves();
  for (let block = 0; block < blocks; block++, at += 34, to += 32) {
    const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
    for (let j = 0; j < 32; j++) out[to + j] = d * ((bytes[at + 2 + j]! << 24) >> 24);
  }
}

/**
 * d, dmin: f16; eight 6-bit scales and minima in 12 bytes; 256 4-bit integers; x = (d scale) q -
 * dmin minimum.
 */
function decodeQ4_K(
  bytes: Uint8Array,
  at: number,
  blocks: number,
  out: Float32Array,
  to: number,
): void {
  const half = halves();
  for (let block = 0; block < blocks; block++, at += 144, to += 256) {
    const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
    const dmin = half[bytes[at + 2]! | (bytes[at + 3]! << 8)]!;
    for (let group = 0; group < 8; group++) {
      const scale = Math.fround(d * sixBitScale(bytes, at + 4, group));
      const minimum = Math.fround(dmin * sixBitMinimum(bytes, at + 4, group));
      const packed = at + 16 + (group >> 1) * 32;
      const shift = (group & 1) * 4;
      for (let j = 0; j < 32; j++) {
        out[to + group * 32 + j] =
          Math.fround(scale * ((bytes[packed + j]! >> shift) & 15)) - minimum;
      }
    }
  }
}

/**
 * As Q4_K, with a fifth bit of each integer in 32 bytes in front: bit `group` of byte j belongs to
 * element j of the group.
 */
function decodeQ5_K(
  bytes: Uint8Array,
  at: number,
  blocks: number,
  out: Float32Array,
  to: number,
): void {
  const half = halves();
  for (let block = 0; block < blocks; block++, at += 176, to += 256) {
    const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
    const dmin = half[bytes[at + 2]! | (bytes[at + 3]! << 8)]!;
    for (let group = 0; group < 8; group++) {
      const scale = Math.fround(d * sixBitScale(bytes, at + 4, group));
      const minimum = Math.fround(dmin * sixBitMinimum(bytes, at + 4, group));
      const packed = at + 48 + (group >> 1) * 32;
      const shift = (group & 1) * 4;
      for (let j = 0; j < 32; j++) {
        const q =
          ((bytes[packed + j]! >> shift) & 15) | (((bytes[at + 16 + j]! >> group) & 1) << 4);
        out[to + group * 32 + j] = Math.fround(scale * q) - minimum;
      }
    }
  }
}

/**
 * 256 6-bit integers (low 4 bits in 128 bytes, high 2 in 64), 16 signed byte scales, d: f16; x = (d
 * scale)(q - 32).
 */
function decodeQ6_K(
  bytes: Uint8Array,
  at: number,
  blocks: number,
  out: Float32Array,
  to: number,
): void {
  const half = halves();
  for (let block = 0; block < blocks; block++, at += 210, to += 256) {
    const d = half[bytes[at + 208]! | (bytes[at + 209]! << 8)]!;
    for (let group = 0; group < 8; group++) {
      const low = at + (group >> 2) * 64 + (group & 1) * 32;
      const lowShift = ((group >> 1) & 1) * 4;
      const high = at + 128 + (group >> 2) * 32;
      const highShift = (group & 3) * 2;
      for (let part = 0; part < 2; part++) {
        const scale = Math.fround(d * ((bytes[at + 192 + group * 2 + part]! << 24) >> 24));
        for (let j = part * 16; j < part * 16 + 16; j++) {
          const q =
            ((bytes[low + j]! >> lowShift) & 15) | (((bytes[high + j]! >> highShift) & 3) << 4);
          out[to + group * 32 + j] = scale * (q - 32);
        }
      }
    }
  }
}

function sixBitScale(bytes: Uint8Array, at: number, group: number): number {
  return group < 4
    ? bytes[at + group]! & 63
    : (bytes[at + group + 4]! & 15) | ((bytes[at + group - 4]! >> 6) << 4);
}

function sixBitMinimum(bytes: Uint8Array, at: number, group: number): number {
  return group < 4
    ? bytes[at + group + 4]! & 63
    : (bytes[at + group + 4]! >> 4) | ((bytes[at + group]! >> 6) << 4);
}
