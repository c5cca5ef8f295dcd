/** The output of the reference program. Its measures are those of bench/edit-stream.ts. */
import { z } from 'zod';

const share = z.number().min(0).max(1);

export const referenceResultSchema = z.object({
  corrections: z.number().int().positive(),
  batches: z.number().int().positive(),
  batchSize: z.number().int().positive(),
  efficacy: share,
  /** Greedy decoding with a key-value cache, after reading the prompt in one pass. */
  efficacyGreedy: share,
  /** The same after reading the prompt token by token. */
  efficacyTokenByToken: share,
  preference: share,
  paraphrase: share.nullable(),
  paraphraseArgmax: share.nullable(),
  neighboursUnchanged: share.nullable(),
  perplexityRatio: z.number().positive(),
  ordinaryOpenShare: share,
  before: z.object({ efficacy: share, preference: share, paraphrase: share.nullable() }),
  /** Editing only: the reference neither validates nor commits. */
  secondsPerCorrection: z.number().positive(),
  stages: z.object({ targets: z.number(), keys: z.number(), solve: z.number(), gate: z.number() }),
  secondsByBatch: z.array(z.number()),
  peakRssBytes: z.number(),
  /** The gate's final threshold, per edited block. */
  alphas: z.array(z.number()),
  parameters: z.record(z.string(), z.unknown()),
  software: z.object({
    python: z.string(),
    torch: z.string(),
    transformers: z.string(),
    device: z.string(),
    threads: z.number(),
  }),
});

export type ReferenceResult = z.infer<typeof referenceResultSchema>;
