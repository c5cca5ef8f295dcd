import type { Checkpoint } from './checkpoint/model-config.ts';

export type {
  Architecture,
  Checkpoint,
  ModelConfig,
  RotaryConfig,
  WeightTensor,
} from './checkpoint/model-config.ts';

/**
 * Opens a model on disk: a `.gguf` file, a folder with one `.gguf` in it, or a folder in the Hugging Face layout
 * (config.json, tokenizer.json and *.safetensors, sharded or not). Tensors are read one by one, on demand.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  throw new Error(`openCheckpoint is being written (${path})`);
}
