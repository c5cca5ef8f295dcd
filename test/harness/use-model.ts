import { canonicalTensors } from '../../model/checkpoint/canonical.ts';
import { openCheckpoint } from '../../model/checkpoint/checkpoint.ts';

/** Opens a model, reads every tensor, and encodes and decodes with its tokeniser. */
export async function useModel(path: string): Promise<void> {
  const checkpoint = await openCheckpoint(path);
  try {
    for (const { name } of canonicalTensors(checkpoint.config))
      if (checkpoint.has(name)) await checkpoint.read(name);
    checkpoint.tokenizer.encodeWithOffsets('the capital of the river');
    checkpoint.tokenizer.decode([0, 1, 127]);
  } finally {
    await checkpoint.close();
  }
}
