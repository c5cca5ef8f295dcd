import { basename, join } from 'node:path';
import {
  MalformedSafetensors,
  parseSafetensorsHeader,
  safetensorsHeaderBytes,
  TENSORS_MAX,
  type ElementType,
} from '../../schemas/encoding/safetensors.ts';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import { storageTypes, type StorageType } from './dequantise.ts';
import { UnreadableCheckpoint } from './faults.ts';
import { openFile, readAt, readJsonObject, type OpenFile } from './file-reading.ts';
import { tensorSource, type StoredTensor, type TensorSource } from './tensor-source.ts';

export const SHARDS_MAX = 1024;
export const INDEX_BYTES_MAX = 64 * 2 ** 20;

/**
 * Returns the paths of a folder's weight files: the shards in its index, else `model.safetensors`,
 * else the only file. Throws UnreadableCheckpoint.
 */
export async function weightFiles(folder: string, names: string[]): Promise<string[]> {
  const index = names.find((name) => name.endsWith('.safetensors.index.json'));
  if (index !== undefined) return indexedFiles(folder, names, index);
  const files = names.filter((name) => name.endsWith('.safetensors'));
  const whole = files.length === 1 ? files[0] : files.find((name) => name === 'model.safetensors');
  if (whole !== undefined) return [join(folder, whole)];
  throw new UnreadableCheckpoint(
    folder,
    files.length === 0 ? 'no .safetensors file' : `${files.length} .safetensors files, no index`,
    'The folder needs model.safetensors, or shards with model.safetensors.index.json',
  );
}

async function indexedFiles(folder: string, names: string[], index: string): Promise<string[]> {
  const path = join(folder, index);
  const limits = { bytesMax: INDEX_BYTES_MAX, valuesMax: 2 * TENSORS_MAX, depthMax: 8 };
  const { weight_map: map } = await readJsonObject(path, limits);
  const isMap = map !== null && typeof map === 'object';
  const shards = new Set<unknown>(isMap ? Object.values(map) : [null]);
  if (shards.size > SHARDS_MAX)
    throw new UnreadableCheckpoint(path, `${shards.size} shards`, `At most ${SHARDS_MAX} are read`);
  return [...shards]
    .map((shard) => {
      if (typeof shard !== 'string')
        throw new UnreadableCheckpoint(
          path,
          'no weight_map from tensors to files',
          'Fetch the file again',
        );
      if (basename(shard) === shard && names.includes(shard)) return join(folder, shard);
      throw new UnreadableCheckpoint(
        folder,
        `lacks the shard ${excerpt(shard)} that ${index} names`,
        'Fetch the missing file',
      );
    })
    .sort();
}

/** Opens the files and reads their headers; throws UnreadableCheckpoint. */
export async function openSafetensors(paths: string[]): Promise<TensorSource> {
  const tensors = new Map<string, StoredTensor>();
  const files: OpenFile[] = [];
  const source = tensorSource(files, tensors);
  try {
    for (const path of paths) {
      const file = await openFile(path);
      files.push(file);
      const header = await readHeader(file);
      for (const [name, { type, shape, begin }] of header.tensors) {
        if (tensors.has(name))
          throw new UnreadableCheckpoint(
            path,
            `tensor ${excerpt(name)} is in another file as well`,
            'Remove the file that does not belong to this model',
          );
        const storage = storageOf[type] ?? null;
        const place = { begin: header.dataOffset + begin, storage, typeName: type };
        tensors.set(name, { name, file, shape, ...place });
      }
    }
  } catch (error) {
    await source.close();
    throw error;
  }
  return source;
}

/** Other types occur beside the weights (GPT-2's causal mask). They are listed but never read. */
const storageOf: Partial<Record<ElementType, StorageType>> = {
  F32: storageTypes.get(0)!,
  F16: storageTypes.get(1)!,
  BF16: storageTypes.get(30)!,
};

async function readHeader(file: OpenFile) {
  try {
    const first = new Uint8Array(Math.min(8, file.bytes));
    await readAt(file, first, 0);
    const beginning = new Uint8Array(8 + safetensorsHeaderBytes(first, file.bytes));
    await readAt(file, beginning, 0);
    return parseSafetensorsHeader(beginning, file.bytes);
  } catch (cause) {
    if (!(cause instanceof MalformedSafetensors)) throw cause;
    throw new UnreadableCheckpoint(file.path, cause.reason, 'Fetch the file again', { cause });
  }
}
