import type { StorageType } from './dequantise.ts';
import { MissingTensor, UnsupportedCheckpoint } from './faults.ts';
import { readAt, type OpenFile } from './file-reading.ts';

/** Bytes read and decoded between two turns of the event loop. */
const READ_CHUNK_BYTES = 8 * 2 ** 20;
/** Elements of the largest tensor that can be read: one Float32Array of 8 GiB. */
export const TENSOR_ELEMENTS_MAX = 2 ** 31;

/** Tensors under the names used in their files. */
export interface TensorSource {
  /** Shape of a tensor, outermost dimension first, or undefined if there is no such tensor. */
  shape(name: string): number[] | undefined;
  /**
   * Reads rows [from, to) of the outermost dimension as float32, chunk by chunk. Throws
   * MissingTensor, UnsupportedCheckpoint and UnreadableCheckpoint.
   */
  readRows(name: string, from: number, to: number): Promise<Float32Array>;
  close(): Promise<void>;
}

/**
 * The place of a tensor. `storage` is null for an element type that is listed but cannot be read.
 */
export interface StoredTensor {
  name: string;
  file: OpenFile;
  shape: number[];
  storage: StorageType | null;
  typeName: string;
  /** Offset of the first byte in the file. */
  begin: number;
}

/** Creates a source over stored tensors. Closing it closes the files. */
export function tensorSource(
  files: readonly OpenFile[],
  tensors: ReadonlyMap<string, StoredTensor>,
): TensorSource {
  return {
    shape: (name) => tensors.get(name)?.shape,
    readRows(name, from, to) {
      const tensor = tensors.get(name);
      if (tensor === undefined)
        throw new MissingTensor(files[0]?.path ?? '', `no tensor "${name}"`, 'It is another model');
      return readRows(tensor, from, to);
    },
    async close() {
      await Promise.all(files.map(({ handle }) => handle.close()));
    },
  };
}

async function readRows(
  { name, file, shape, storage, typeName, begin }: StoredTensor,
  from: number,
  to: number,
): Promise<Float32Array> {
  if (storage === null)
    throw new UnsupportedCheckpoint(
      file.path,
      `tensor "${name}" is stored as ${typeName}`,
      'Weights are read from F32, F16 and BF16',
    );
  const rowElements = shape.slice(1).reduce((product, n) => product * n, 1);
  const elements = (to - from) * rowElements;
  if (elements > TENSOR_ELEMENTS_MAX)
    throw new UnsupportedCheckpoint(
      file.path,
      `tensor "${name}" has ${elements} elements`,
      `At most ${TENSOR_ELEMENTS_MAX} are read at once`,
    );
  const { blockElements, blockBytes } = storage;
  const values = new Float32Array(elements);
  const blocks = elements / blockElements;
  const chunkBlocks = Math.max(1, Math.floor(READ_CHUNK_BYTES / blockBytes));
  const chunk = new Uint8Array(Math.min(blocks, chunkBlocks) * blockBytes);
  const first = begin + ((from * rowElements) / blockElements) * blockBytes;
  for (let block = 0; block < blocks; block += chunkBlocks) {
    const bytes = chunk.subarray(0, Math.min(chunkBlocks, blocks - block) * blockBytes);
    await readAt(file, bytes, first + block * blockBytes);
    storage.decode(bytes, values, block * blockElements);
  }
  return values;
}
