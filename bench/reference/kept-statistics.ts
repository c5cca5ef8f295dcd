/** Finds the files of the key statistics that an engine used. */
import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { fileSha256 } from '../../model/checkpoint/identity.ts';

export interface KeptStatistics {
  /** Contexts, canary texts and the base model's loss on them. */
  text: string;
  /** C0 of each edited block, in block order. */
  moments: string[];
}

/**
 * Finds the files whose hash is `sha256`, the engine's hash of its statistics: over the text's hash
 * and each block's. Throws if no files match.
 */
export async function keptStatistics(
  folder: string,
  layers: readonly number[],
  sha256: string,
): Promise<KeptStatistics> {
  for (const name of await readdir(folder)) {
    const identity = /^text-([0-9a-f]+)\.json$/.exec(name)?.[1];
    if (identity === undefined) continue;
    const text = path.join(folder, name);
    const moments = layers.map((layer) =>
      path.join(folder, `keys-${identity}-${layer}.safetensors`),
    );
    const whole = createHash('sha256').update(await fileSha256(text));
    try {
      for (const [i, layer] of layers.entries())
        whole.update(`${layer} ${await fileSha256(moments[i]!)}\n`);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
      throw error;
    }
    if (whole.digest('hex') === sha256) return { text, moments };
  }
  throw new Error(`no key statistics in ${folder} match those of the engine (${sha256})`);
}
