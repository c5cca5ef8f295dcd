/**
 * Converts GGML's storage types to float32. A quantised tensor is a row of blocks, each with a few
 * scales and 32 or 256 packed integers. The layouts are those of ggml-quants.c. The results equal
 * those of the `gguf` Python package bit for bit, because products are rounded to float32 before
 * the sum.
 */

export interface StorageType {
  blockElements: number;
  blockBytes: number;
  /** Decodes the whole blocks in `bytes` into `out`, from index `to` on. */
  decode(bytes: Uint8Array, out: Float32Array, to: number): void;
}

/** Storage types by ggml's number. */
export const storageTypes: ReadonlyMap<number, StorageType> = new Map([
  [0, { blockElements: 1, blockBytes: 4, decode: decodeF32 }],
  [1, { blockElements: 1, blockBytes: 2, decode: decodeF16 }],
  [2, groupOf32({ fifthBit: false, minimum: false })], // Q4_0
  [3, groupOf32({ fifthBit: false, minimum: true })], // Q4_1
  [6, groupOf32({ fifthBit: true, minimum: false })], // Q5_0
  [7, groupOf32({ fifthBit: true, minimum: true })], // Q5_1
  [8, inBlocks(32, 34, decodeQ8_0)],
  [12, groupsOf32({ fifthBit: false })], // Q4_K
  [13, groupsOf32({ fifthBit: true })], // Q5_K
  [14, inBlocks(256, 210, decodeQ6_K)],
  [30, { blockElements: 1, blockBytes: 2, decode: decodeBF16 }],
]);

let halfTable: Float32Array | undefined;

/** All 65,536 half-precision numbers as float32, indexed by their bits; made on first use. */
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

function decodeF32(bytes: Uint8Array, out: Float32Array, to: number): void {
  new Uint8Array(out.buffer, out.byteOffset + to * 4, bytes.length).set(bytes);
}

function decodeF16(bytes: Uint8Array, out: Float32Array, to: number): void {
  const half = halves();
  for (let i = 0; i < bytes.length / 2; i++)
    out[to + i] = half[bytes[2 * i]! | (bytes[2 * i + 1]! << 8)]!;
}

function decodeBF16(bytes: Uint8Array, out: Float32Array, to: number): void {
  const bits = new Uint32Array(out.buffer, out.byteOffset + to * 4, bytes.length / 2);
  for (let i = 0; i < bits.length; i++) bits[i] = (bytes[2 * i]! << 16) | (bytes[2 * i + 1]! << 24);
}

/** Decodes the block at byte `at` into `out`, from index `to` on. */
type BlockDecoder = (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void;

function inBlocks(blockElements: number, blockBytes: number, block: BlockDecoder): StorageType {
  return {
    blockElements,
    blockBytes,
    decode(bytes, out, to) {
      for (let at = 0; at < bytes.length; at += blockBytes, to += blockElements)
        block(bytes, at, out, to);
    },
  };
}

/**
 * One group: scale d and, if `minimum`, m as float16; if `fifthBit`, 32 high bits; 16 bytes of two
 * 4-bit integers. x = d q + m, or d (q - 8), or d (q - 16) with a fifth bit.
 */
function groupOf32(kind: { fifthBit: boolean; minimum: boolean }): StorageType {
  const highAt = kind.minimum ? 4 : 2;
  const packedAt = highAt + (kind.fifthBit ? 4 : 0);
  const middle = kind.fifthBit ? 16 : 8;
  return inBlocks(32, packedAt + 16, (bytes, at, out, to) => {
    const d = halfAt(bytes, at);
    const m = kind.minimum ? halfAt(bytes, at + 2) : 0;
    const high = kind.fifthBit
      ? uint16At(bytes, at + highAt) | (uint16At(bytes, at + highAt + 2) << 16)
      : 0;
    for (let j = 0; j < 32; j++) {
      const pair = bytes[at + packedAt + (j & 15)]!;
      const q = (j < 16 ? pair & 15 : pair >> 4) | (((high >>> j) & 1) << 4);
      out[to + j] = kind.minimum ? Math.fround(d * q) + m : d * (q - middle);
    }
  });
}

/** Scale d as float16, 32 signed bytes; x = d q. */
function decodeQ8_0(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = halfAt(bytes, at);
  for (let j = 0; j < 32; j++) out[to + j] = d * int8At(bytes, at + 2 + j);
}

/**
 * Eight groups: d and dmin as float16; 6-bit scales and minima in 12 bytes; if `fifthBit`, 32 bytes
 * whose bit g belongs to group g; 128 bytes of 4-bit integers. x = (d scale) q - dmin minimum.
 */
function groupsOf32({ fifthBit }: { fifthBit: boolean }): StorageType {
  const packedAt = fifthBit ? 48 : 16;
  return inBlocks(256, packedAt + 128, (bytes, at, out, to) => {
    const d = halfAt(bytes, at);
    const dmin = halfAt(bytes, at + 2);
    for (let group = 0; group < 8; group++) {
      const scale = Math.fround(d * sixBitScale(bytes, at + 4, group));
      const minimum = Math.fround(dmin * sixBitMinimum(bytes, at + 4, group));
      const packed = at + packedAt + (group >> 1) * 32;
      for (let j = 0; j < 32; j++) {
        const low = (bytes[packed + j]! >> ((group & 1) * 4)) & 15;
        const q = fifthBit ? low | (((bytes[at + 16 + j]! >> group) & 1) << 4) : low;
        out[to + group * 32 + j] = Math.fround(scale * q) - minimum;
      }
    }
  });
}

/**
 * 256 6-bit integers (low 4 bits in 128 bytes, high 2 in 64), 16 signed byte scales, d as float16;
 * x = (d scale) (q - 32).
 */
function decodeQ6_K(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = halfAt(bytes, at + 208);
  for (let group = 0; group < 8; group++) {
    const low = at + (group >> 2) * 64 + (group & 1) * 32;
    const lowShift = ((group >> 1) & 1) * 4;
    const high = at + 128 + (group >> 2) * 32;
    const highShift = (group & 3) * 2;
    for (let j = 0; j < 32; j++) {
      const scale = Math.fround(d * int8At(bytes, at + 192 + group * 2 + (j >> 4)));
      const q = ((bytes[low + j]! >> lowShift) & 15) | (((bytes[high + j]! >> highShift) & 3) << 4);
      out[to + group * 32 + j] = scale * (q - 32);
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

function uint16At(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

function halfAt(bytes: Uint8Array, at: number): number {
  return halves()[uint16At(bytes, at)]!;
}

function int8At(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) >> 24;
}
