/** An outcome as JSON in the register; on Kafka it is Avro (correction-outcome.avsc). */
import { z } from 'zod';
import type { Outcome } from './editing.ts';

export const outcomeSchema: z.ZodType<Outcome> = z.object({
  lineage: z.string(),
  revisionId: z.string(),
  factKey: z.string(),
  status: z.enum([
    'COMMITTED',
    'SUPERSEDED',
    'QUARANTINED',
    'RETRACTED',
    'DUPLICATE',
    'NOTHING_TO_RETRACT',
  ]),
  version: z.number().int().positive().nullable(),
  reason: z.string().nullable(),
  measured: z.record(z.string(), z.union([z.number(), z.string()])),
  position: z.object({ topic: z.string(), partition: z.number().int(), offset: z.string() }),
  batchId: z.string(),
  decidedAt: z.number(),
});
