import { readdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { UnreadableCheckpoint } from '../format/faults.ts';
import { canonicalReader } from './canonical.ts';
import { openGguf } from './gguf.ts';
import { openHuggingFaceFolder, readHuggingFaceConfig } from './huggingface-folder.ts';
import { weightsSha256 } from './identity.ts';
import { HEAD_WIDTH_MAX, type Checkpoint, type ModelConfig } from './model-config.ts';

export { MissingTensor, UnreadableCheckpoint, UnsupportedCheckpoint } from '../format/faults.ts';
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
 * read one at a time, on demand. Throws UnreadableCheckpoint, UnsupportedCheckpoint or
 * MissingTensor, each naming the file.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const { at, name, names } = await locate(path);
  const opened = names === null ? await openGguf(at) : await openHuggingFaceFolder(at, names);
  const { source, config, layout } = opened;
  try {
    checkConfig(at, config);
    const tensors = canonicalReader(at, config, source, layout);
    const tokenizer = opened.createTokenizer();
    const sha256 = await weightsSha256(opened.weightFiles);
    return { name, config, tokenizer, sha256, ...tensors, close: () => source.close() };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/**
 * Reads a model's name and shape from its config.json or GGUF header alone; the weights may be
 * absent. Throws as openCheckpoint does.
 */
export async function readModelShape(path: string): Promise<{ name: string; config: ModelConfig }> {
  const { at, name, names } = await locate(path);
  const config = names === null ? await ggufConfig(at) : await readHuggingFaceConfig(at);
  checkConfig(at, config);
  return { name, config };
}

async function ggufConfig(file: string): Promise<ModelConfig> {
  const { source, config } = await openGguf(file);
  await source.close();
  return config;
}

/** Finds the GGUF file (`names` is null) or the Hugging Face folder with its file names. */
async function locate(path: string): Promise<{ at: string; name: string; names: string[] | null }> {
  const whole = resolve(path);
  const gguf = (at: string) => ({ at, name: basename(at, '.gguf'), names: null });
  const names = await readdir(whole).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOTDIR') return null;
    const hint = 'Name a .gguf file or a folder';
    throw new UnreadableCheckpoint(whole, 'there is no model', hint, { cause });
  });
  if (names === null) return gguf(whole);
  if (names.includes('config.json')) return { at: whole, name: basename(whole), names };
  const ggufs = names.filter((name) => name.endsWith('.gguf'));
  if (ggufs.length === 1) return gguf(join(whole, ggufs[0]!));
  throw new UnreadableCheckpoint(
    whole,
    ggufs.length === 0 ? 'neither config.json nor a .gguf file' : `${ggufs.length} .gguf files`,
    'Name a .gguf file, or a folder with config.json, tokenizer.json and *.safetensors',
  );
}

export const LAYERS_MAX = 1_024;
/** Largest width of the residual stream, the MLP, all queries together, and the vocabulary. */
export const WIDTH_MAX = 1_000_000;

/** Refuses impossible numbers before anything is allocated for them. */
function checkConfig(path: string, config: ModelConfig): void {
  const { layers, residualWidth, mlpWidth, heads, keyValueHeads, headWidth, rotary } = config;
  const { vocabulary, contextMax } = config;
  const widths = { residualWidth, mlpWidth, vocabulary, queries: heads * headWidth };
  const checks: [boolean, string][] = [
    [layers <= LAYERS_MAX, `${layers} layers`],
    ...Object.entries(widths).map(([name, width]): [boolean, string] => [
      width <= WIDTH_MAX,
      `${name} ${width}`,
    ]),
    [Number.isSafeInteger(contextMax), `a context of ${contextMax}`],
    [Number.isInteger(headWidth), `${heads} heads over ${residualWidth} channels`],
    [headWidth <= HEAD_WIDTH_MAX, `heads of ${headWidth} channels`],
    [heads % keyValueHeads === 0, `${heads} heads share ${keyValueHeads} keys`],
    [
      rotary === null || (rotary.width <= headWidth && rotary.width % 2 === 0),
      `${rotary?.width} rotated of ${headWidth} channels`,
    ],
  ];
  const faults = checks.filter(([possible]) => !possible).map(([, fault]) => fault);
  if (faults.length > 0)
    throw new UnreadableCheckpoint(
      path,
      `describes an impossible model: ${faults.join(', ')}`,
      'The file is damaged',
    );
}
