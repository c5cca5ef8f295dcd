/**
 * A model in a folder of the Hugging Face layout: config.json, tokenizer.json, *.safetensors, and
 * optionally tokenizer_config.json and generation_config.json, which name the special tokens.
 */
import { join } from 'node:path';
import { UnreadableCheckpoint } from '../format/faults.ts';
import { readJsonObject } from '../format/file-reading.ts';
import { openSafetensors, weightFiles } from '../format/safetensors-files.ts';
import { describedTokenizer } from '../tokenizer/description.ts';
import { createTokenizer } from '../tokenizer/tokenizer.ts';
import type { OpenModel } from './canonical.ts';
import { readConfig } from './huggingface-config.ts';
import type { ModelConfig } from './model-config.ts';

/** The largest file is tokenizer.json: about 30 MiB for a quarter of a million tokens. */
export const JSON_BYTES_MAX = 256 * 2 ** 20;
/** Most values are tokens and merges, at three values each. */
export const JSON_VALUES_MAX = 8_000_000;
export const JSON_DEPTH_MAX = 64;

/** Opens the folder with the files `names`. The caller closes `source`. */
export async function openHuggingFaceFolder(folder: string, names: string[]): Promise<OpenModel> {
  for (const needed of ['config.json', 'tokenizer.json'])
    if (!names.includes(needed))
      throw new UnreadableCheckpoint(folder, `no ${needed}`, 'Fetch the whole model');
  const path = join(folder, 'config.json');
  const raw = await readJson(path);
  const tokenizer = await openTokenizer(folder, names, raw);
  const paths = await weightFiles(folder, names);
  const source = await openSafetensors(paths);
  try {
    const prefix = source.shape('transformer.wte.weight') ? 'transformer.' : '';
    const { config, layout } = readConfig(path, raw, prefix);
    return { source, config, layout, createTokenizer: () => tokenizer, weightFiles: paths };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** Reads the shape from the folder's config.json and nothing else. */
export async function readHuggingFaceConfig(folder: string): Promise<ModelConfig> {
  const path = join(folder, 'config.json');
  return readConfig(path, await readJson(path), '').config;
}

function readJson(path: string): Promise<Record<string, unknown>> {
  return readJsonObject(path, {
    bytesMax: JSON_BYTES_MAX,
    valuesMax: JSON_VALUES_MAX,
    depthMax: JSON_DEPTH_MAX,
  });
}

async function openTokenizer(folder: string, names: string[], config: Record<string, unknown>) {
  const optional = async (name: string) =>
    names.includes(name) ? readJson(join(folder, name)) : {};
  const file = join(folder, 'tokenizer.json');
  const description = describedTokenizer(file, await readJson(file));
  const settings: Record<string, unknown> = await optional('tokenizer_config.json');
  const generation: Record<string, unknown> = await optional('generation_config.json');
  const { vocab } = description.model;
  const idOf = (token: unknown): number | undefined => {
    const content =
      typeof token === 'string' ? token : (token as { content?: unknown } | null)?.content;
    if (typeof content !== 'string') return undefined;
    const added = description.added_tokens?.find((one) => one.content === content);
    return added?.id ?? (Object.hasOwn(vocab, content) ? vocab[content] : undefined);
  };
  const ids = (value: unknown): number[] =>
    [value].flat().filter((id): id is number => Number.isInteger(id) && (id as number) >= 0);
  const beginToken = idOf(settings['bos_token']) ?? ids(config['bos_token_id'])[0] ?? null;
  const endTokens = new Set([
    ...ids(generation['eos_token_id']),
    ...ids(config['eos_token_id']),
    ...ids(idOf(settings['eos_token'])),
  ]);
  return createTokenizer(description, { beginToken, endTokens: [...endTokens] });
}
