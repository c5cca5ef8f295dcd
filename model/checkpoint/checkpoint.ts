import { readdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { CanonicalTensors } from './canonical.ts';
import { UnreadableCheckpoint } from './faults.ts';
import { ggufTokenizer } from './gguf-tokenizer.ts';
import { openGguf } from './gguf.ts';
import { openHuggingFaceFolder, readHuggingFaceConfig } from './huggingface-layout.ts';
import { weightsSha256 } from './identity.ts';
import { HEAD_WIDTH_MAX, type Checkpoint, type ModelConfig } from './model-config.ts';

export { MissingTensor, UnreadableCheckpoint, UnsupportedCheckpoint } from './faults.ts';
export type {
  Architecture,
  Checkpoint,
  ModelConfig,
  RotaryConfig,
  WeightTensor,
} from './model-config.ts';

/**
 * Opens a model on disk: a `.gguf` file, a folder with one `.gguf` in it, or a folder in the
 * Hugging Face layout (config.json, tokenizer.json and *.safetensors, sharded or not). Tensors are
 * read one by one, on demand. Throws UnreadableCheckpoint, UnsupportedCheckpoint or MissingTensor,
 * each naming the file.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const whole = resolve(path);
  const found = await stat(whole).catch((cause: unknown) => {
    throw new UnreadableCheckpoint(
      `There is no model at ${whole}`,
      { path: whole },
      'Name a .gguf file or a folder',
      { cause },
    );
  });
  if (!found.isDirectory()) return openGgufFile(whole);
  const names = await readdir(whole);
  if (names.includes('config.json')) return openFolder(whole, names);
  const ggufs = names.filter((name) => name.endsWith('.gguf'));
  if (ggufs.length === 1) return openGgufFile(join(whole, ggufs[0]!));
  throw new UnreadableCheckpoint(
    `${whole} has ${ggufs.length === 0 ? 'neither config.json nor a .gguf file' : `${ggufs.length} .gguf files`}`,
    { path: whole, ggufs: ggufs.slice(0, 8) },
    'Name a .gguf file, or a folder with config.json, tokenizer.json and *.safetensors',
  );
}

/**
 * Name and shape of a model on disk, from its config.json or GGUF header alone: the weights need
 * not be there. Throws as openCheckpoint does.
 */
export async function readModelShape(path: string): Promise<{ name: string; config: ModelConfig }> {
  const whole = resolve(path);
  const names = await readdir(whole).catch((cause: NodeJS.ErrnoException): string[] | null => {
    if (cause.code === 'ENOTDIR') return null;
    throw new UnreadableCheckpoint(
      `There is no model at ${whole}`,
      { path: whole },
      'Name a .gguf file or a folder',
      { cause },
    );
  });
  if (names?.includes('config.json') === true) {
    const config = await readHuggingFaceConfig(whole);
    checkConfig(whole, config);
    return { name: basename(whole), config };
  }
  const ggufs = names?.filter((name) => name.endsWith('.gguf')) ?? [];
  if (names !== null && ggufs.length !== 1) {
    throw new UnreadableCheckpoint(
      `${whole} has ${ggufs.length === 0 ? 'neither config.json nor a .gguf file' : `${ggufs.length} .gguf files`}`,
      { path: whole },
      'Name a .gguf file, or a folder with config.json',
    );
  }
  const file = names === null ? whole : join(whole, ggufs[0]!);
  const { source, config } = await openGguf(file);
  await source.close();
  checkConfig(file, config);
  return { name: basename(file, '.gguf'), config };
}

async function openGgufFile(path: string): Promise<Checkpoint> {
  const { source, config, layout, metadata } = await openGguf(path);
  try {
    checkConfig(path, config);
    const tensors = new CanonicalTensors(path, config, source, layout);
    return {
      name: basename(path, '.gguf'),
      config,
      tokenizer: ggufTokenizer(path, metadata),
      sha256: await weightsSha256([path]),
      has: (name) => tensors.has(name),
      read: (name) => tensors.read(name),
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

async function openFolder(folder: string, names: string[]): Promise<Checkpoint> {
  const { source, config, layout, tokenizer, weightFiles } = await openHuggingFaceFolder(
    folder,
    names,
  );
  try {
    checkConfig(folder, config);
    const tensors = new CanonicalTensors(folder, config, source, layout);
    return {
      name: basename(folder),
      config,
      tokenizer,
      sha256: await weightsSha256(weightFiles),
      has: (name) => tensors.has(name),
      read: (name) => tensors.read(name),
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

export const LAYERS_MAX = 1_024;
/** Of the residual stream, the MLP, the queries together and the vocabulary. */
export const WIDTH_MAX = 1_000_000;

/** Numbers that cannot be those of a model are refused before anything is made of their size. */
function checkConfig(path: string, config: ModelConfig): void {
  const {
    layers,
    residualWidth,
    mlpWidth,
    heads,
    keyValueHeads,
    headWidth,
    vocabulary,
    contextMax,
    rotary,
  } = config;
  const faults: string[] = [];
  if (layers > LAYERS_MAX) faults.push(`${layers} layers`);
  const wide = Object.entries({ residualWidth, mlpWidth, vocabulary, queries: heads * headWidth });
  for (const [name, width] of wide) if (!(width <= WIDTH_MAX)) faults.push(`${name} ${width}`);
  if (!Number.isSafeInteger(contextMax)) faults.push(`a context of ${contextMax}`);
  if (!Number.isInteger(headWidth)) faults.push(`${heads} heads over ${residualWidth} channels`);
  if (headWidth > HEAD_WIDTH_MAX) faults.push(`heads of ${headWidth} channels`);
  if (heads % keyValueHeads !== 0) faults.push(`${heads} heads share ${keyValueHeads} keys`);
  if (rotary !== null && (rotary.width > headWidth || rotary.width % 2 !== 0))
    faults.push(`${rotary.width} rotated of ${headWidth} channels`);
  if (faults.length > 0)
    throw new UnreadableCheckpoint(
      `${path} describes an impossible model: ${faults.join(', ')}`,
      { path, faults },
      'The file is damaged',
    );
}
