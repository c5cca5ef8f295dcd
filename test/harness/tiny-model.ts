/**
 * Loads the tiny checkpoints under test/golden/tiny, and makes text in the words of their
 * tokeniser.
 */
import { deviceFromEnvironment, homeFromEnvironment } from '../../infra/config/home.ts';
import { openCheckpoint, type Checkpoint } from '../../model/checkpoint/checkpoint.ts';
import { seededRandom } from '../../model/tensor/random.ts';
import { loadTensorFlow } from '../../model/tensor/tensorflow.ts';
import { Transformer } from '../../model/network/transformer.ts';
import { goldenPath } from '../golden/read-golden.ts';

export const ADDON = homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon;

/**
 * One of each architecture, each with a context of 64 tokens, 4 blocks and a leading
 * `<|endoftext|>`.
 */
export const TINY_MODELS = ['llama', 'gpt2', 'gptj'] as const;

export function tinyPath(name: string): string {
  return goldenPath('tiny', name);
}

export interface TinyModel {
  checkpoint: Checkpoint;
  model: Transformer;
  close(): Promise<void>;
}

export async function loadTiny(name: string): Promise<TinyModel> {
  loadTensorFlow(ADDON);
  const checkpoint = await openCheckpoint(tinyPath(name));
  const model = await Transformer.load(checkpoint);
  return {
    checkpoint,
    model,
    async close() {
      model.dispose();
      await checkpoint.close();
    },
  };
}

const WORDS = [
  'the capital of old country is town on river her mother tongue french and his english',
  'author book was born in berlin works london anna plays piano headquarters company rome tom',
  'speaks greek',
].flatMap((words) => words.split(' '));

export function tinyText(words: number, seed: number): string {
  const random = seededRandom(seed);
  const chosen = Array.from({ length: words }, () => WORDS[Math.floor(random() * WORDS.length)]!);
  return chosen.map((word, i) => (i % 10 === 9 ? `${word}\n` : `${word} `)).join('');
}
