import type { FileHandle } from 'node:fs/promises';
import type { StorageType } from './dequantise.ts';
import { UnsupportedCheckpoint } from './faults.ts';
import { readAt } from './positioned-read.ts';
import { READ_CHUNK_BYTES, TENSOR_ELEMENTS_MAX } from './tensor-source.ts';

/** A tensor's place in a file. */
export interface StoredPlace {
  name: string;
  shape: number[];
  storage: StorageType;
  begin: number;
}

/** Rows [from, to) of a stored tensor as float32, read and decoded chunk by chunk. */
export async function readStoredRows(
  file: FileHandle,
  path: string,
  place: StoredPlace,
  from: number,
  to: number,
): Promise<Float32Array> {
  const { storage } = place;
  const rowElements = place.shape.slice(1).reduce((product, n) => product * n, 1);
  const elements = (to - from) * rowElements;
  if (elements > TENSOR_ELEMENTS_MAX) {
    throw new UnsupportedCheckpoint(
      `${path}: tensor "${place.name}" has ${elements} elements`,
      { path, tensor: place.name, elements },
      `The most that is read at once is ${TENSOR_ELEMENTS_MAX}`,
    );
  }
  const values = new Float32Array(elements);
  const blocks = elements / storage.blockElements;
  const chunkBlocks = Math.max(1, Math.floor(READ_CHUNK_BYTES / storage.blockBytes));
  const chunk = new Uint8Array(Math.min(blocks, chunkBlocks) * storage.blockBytes);
  const begin = place.begin + ((from * rowElements) / storage.blockElements) * storage.blockBytes;
  for (let block = 0; block < blocks; block += chunkBlocks) {
    const count = Math.min(chunkBlocks, blocks - block);
    const bytes = chunk.subarray(0, count * storage.blockBytes);
    await readAt(file, path, bytes, begin + block * storage.blockBytes);
    storage.decode(bytes, 0, count, values, block * storage.blockElements);
  }
  return values;
}
