/** The tensors of one or several safetensors files, by the files' names. */
import type { FileHandle } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  elementBytes,
  MalformedSafetensors,
  parseSafetensorsHeader,
  safetensorsHeaderBytes,
  TENSORS_MAX,
  type ElementType,
} from '../../schemas/encoding/safetensors.ts';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import { storageTypes, type StorageType } from './dequantise.ts';
import { MissingTensor, UnreadableCheckpoint, UnsupportedCheckpoint } from './faults.ts';
import { openFile, readAt, readJsonObject } from './positioned-read.ts';
import { readStoredRows, type StoredPlace } from './stored-rows.ts';
import type { TensorSource } from './tensor-source.ts';

export const SHARDS_MAX = 1024;
export const INDEX_BYTES_MAX = 64 * 2 ** 20;
const INDEX_LIMITS = { valuesMax: 2 * TENSORS_MAX, depthMax: 8 };

/**
 * Paths of a folder's weight files: those the index names, or `model.safetensors`, or the one there
 * is.
 */
export async function weightFiles(folder: string, names: string[]): Promise<string[]> {
  const index = names.find((name) => name.endsWith('.safetensors.index.json'));
  if (index === undefined) {
    const files = names.filter((name) => name.endsWith('.safetensors'));
    const whole =
      files.length === 1 ? files[0] : files.find((name) => name === 'model.safetensors');
    if (whole !== undefined) return [join(folder, whole)];
    throw new UnreadableCheckpoint(
      files.length === 0
        ? `${folder} has no .safetensors file`
        : `${folder} has ${files.length} .safetensors files and no index`,
      { folder, files: files.slice(0, 8) },
      'The folder needs model.safetensors, or shards with model.safetensors.index.json',
    );
  }
  const path = join(folder, index);
  const shards = new Set(Object.values(await weightMap(path)));
  if (shards.size > SHARDS_MAX)
    throw new UnreadableCheckpoint(
      `${path} names ${shards.size} shards`,
      { path, shards: shards.size },
      `The most allowed is ${SHARDS_MAX}`,
    );
  for (const shard of shards) {
    if (basename(shard) !== shard || !names.includes(shard)) {
      throw new UnreadableCheckpoint(
        `${folder} lacks the shard ${excerpt(shard)} that ${index} names`,
        { folder, shard: excerpt(shard) },
        'Fetch the missing file',
      );
    }
  }
  return [...shards].sort().map((shard) => join(folder, shard));
}

async function weightMap(path: string): Promise<Record<string, string>> {
  const { weight_map: map } = await readJsonObject(path, INDEX_BYTES_MAX, INDEX_LIMITS);
  if (
    map === null ||
    typeof map !== 'object' ||
    !Object.values(map).every((shard) => typeof shard === 'string')
  ) {
    throw new UnreadableCheckpoint(
      `${path} has no weight_map from tensors to files`,
      { path },
      'Fetch the file again',
    );
  }
  return map as Record<string, string>;
}

/** Opens the files and reads their headers. Throws UnreadableCheckpoint. */
export async function openSafetensors(paths: string[]): Promise<TensorSource> {
  const places = new Map<
    string,
    { place: StoredPlace; path: string; file: FileHandle; type: ElementType }
  >();
  const files: FileHandle[] = [];
  const close = async () => {
    await Promise.all(files.map((file) => file.close()));
  };
  try {
    for (const path of paths) {
      const file = await openFile(path);
      files.push(file);
      const { tensors, dataOffset } = await readHeader(file, path);
      for (const [name, { type, shape, begin }] of tensors) {
        if (places.has(name))
          throw new UnreadableCheckpoint(
            `Tensor ${excerpt(name)} is in two files, one of them ${path}`,
            { tensor: excerpt(name), path },
            'Remove the file that is not of this model',
          );
        const place = {
          name,
          shape,
          storage: storageOf[type] ?? unreadable,
          begin: dataOffset + begin,
        };
        places.set(name, { place, path, file, type });
      }
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    shape: (name) => places.get(name)?.place.shape,
    readRows(name, from, to) {
      const found = places.get(name);
      if (found === undefined)
        throw new MissingTensor(
          `No file has a tensor "${name}"`,
          { tensor: name },
          'It is another model',
        );
      if (found.place.storage === unreadable) {
        throw new UnsupportedCheckpoint(
          `${found.path}: tensor "${name}" is stored as ${found.type}`,
          { tensor: name, type: found.type },
          `Weights are read from ${Object.keys(storageOf).join(', ')}`,
        );
      }
      return readStoredRows(found.file, found.path, found.place, from, to);
    },
    close,
  };
}

const storageOf: Partial<Record<ElementType, StorageType>> = {
  F32: storageTypes.get(0)!,
  F16: storageTypes.get(1)!,
  BF16: storageTypes.get(30)!,
};

/**
 * Integers and float64 stand beside the weights in some files (GPT-2's causal mask); they are
 * listed, never read.
 */
const unreadable: StorageType = {
  blockElements: 1,
  blockBytes: elementBytes.U8,
  decode: () => undefined,
};

async function readHeader(file: FileHandle, path: string) {
  const { size } = await file.stat();
  try {
    const first = new Uint8Array(Math.min(8, size));
    await readAt(file, path, first, 0);
    const beginning = new Uint8Array(8 + safetensorsHeaderBytes(first, size));
    await readAt(file, path, beginning, 0);
    return parseSafetensorsHeader(beginning, size);
  } catch (error) {
    if (!(error instanceof MalformedSafetensors)) throw error;
    throw new UnreadableCheckpoint(
      `${path}: ${error.reason}`,
      { path, fileBytes: size },
      'Fetch the file again',
      { cause: error },
    );
  }
}
