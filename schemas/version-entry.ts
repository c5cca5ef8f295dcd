/** The records of a lineage's version log as JSON: entries, and outcomes in the register. */
import { z } from 'zod';
import type { Outcome } from './outcome.ts';
import { undoRequestSchema } from './undo.ts';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const blob = z.object({ sha256, bytes: z.number().int().nonnegative() });
const position = z.object({
  topic: z.string(),
  partition: z.number().int().nonnegative(),
  offset: z.string().regex(/^\d+$/),
});
const share = z.number().min(0).max(1).nullable();
const scores = z.object({
  efficacy: share,
  efficacyGreedy: share,
  generalisation: share,
  locality: share,
  retention: share,
  canaryRatio: z.number().positive(),
  editNorm: z.number().nonnegative(),
});

/** Everything that went into a version. It never changes. */
export const versionEntrySchema = z.object({
  format: z.literal(1),
  lineage: z.string(),
  version: z.number().int().positive(),
  /** Hash of the parent entry's stored bytes; null for version 1. */
  parent: sha256.nullable(),
  createdAt: z.iso.datetime(),
  batchId: z.string(),
  added: z.array(
    z.object({
      correctionId: z.string(),
      factKey: z.string(),
      /** Row in the `pairs` blob. */
      row: z.number().int().nonnegative(),
      subject: z.string(),
      relation: z.string().nullable(),
      prompt: z.string(),
      target: z.string(),
      previousAnswer: z.string().nullable(),
      paraphrases: z.array(z.string()),
      neighbourhood: z.array(z.string()),
      source: z.string(),
      issuedAt: z.number().int().nonnegative(),
      position,
      /** The quarantined correction's id or the dead letter's place that it resubmits. */
      replayOf: z.string().optional(),
      /** The version that first added it, and its row there, if an undo restored it. */
      origin: z
        .object({ version: z.number().int().positive(), row: z.number().int().nonnegative() })
        .optional(),
    }),
  ),
  removed: z.array(
    z.object({
      correctionId: z.string(),
      factKey: z.string(),
      because: z.enum(['superseded', 'retracted', 'reverted', 'contradicted']),
      by: z.string(),
    }),
  ),
  retractions: z.array(
    z.object({ id: z.string(), factKey: z.string(), issuedAt: z.number().int(), position }),
  ),
  /** Keys and wanted changes of `added` by edited layer (safetensors); null if none was added. */
  pairs: blob.nullable(),
  /** The inputs of the searches for the targets of `added` (`TargetSearch`), for a rebuild. */
  searches: z.array(blob),
  /** The operator's request if an undo made this version. */
  undo: undoRequestSchema.optional(),
  /** Number of committed corrections in this version. */
  corrections: z.number().int().nonnegative(),
  layers: z.array(
    z.object({ layer: z.number().int(), editNorm: z.number(), threshold: z.number() }),
  ),
  probes: z.object({ before: scores, after: scores, details: blob }),
  base: z.object({ name: z.string(), sha256, architecture: z.string() }),
  keyStatistics: z.object({ sha256, tokens: z.number().int(), source: z.string() }),
  parameters: z.record(z.string(), z.unknown()),
  workflow: z.object({ workflowId: z.string(), runId: z.string() }),
  software: z.object({
    errata: z.string(),
    tensorflow: z.string(),
    node: z.string(),
    device: z.string(),
  }),
});

export type VersionEntry = z.infer<typeof versionEntrySchema>;

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
