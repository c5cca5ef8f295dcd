/**
 * Hyper-parameters as data from outside: what a user lays over a model's own set, and a whole set
 * in a file.
 */
import { z } from 'zod';
import { boundedJson, UnsoundJson } from './encoding/bounded-json.ts';
import type { HyperParameterOverrides, HyperParameters, ModelShape } from './editing.ts';
import { firstFaults, onOneLine } from './encoding/excerpt.ts';

const hyperParameters = z.strictObject({
  layers: z.array(z.number().int().nonnegative()).min(1),
  lambda: z.number().positive(),
  ridge: z.number().nonnegative(),
  stepsMax: z.number().int().min(1).max(1_000),
  learningRate: z.number().positive(),
  klFactor: z.number().nonnegative(),
  weightDecay: z.number().nonnegative(),
  clamp: z.number().positive(),
  lossTarget: z.number().nonnegative(),
  contexts: z.number().int().min(0).max(64),
  contextsPerStep: z.number().int().min(0).max(64),
  targetTokensMax: z.number().int().min(1).max(256),
  gate: z
    .strictObject({
      kind: z.enum(['subject', 'sequence', 'always']),
      map: z.enum(['subject', 'joint']),
      floor: z.number(),
    })
    .partial(),
  seed: z.number().int().nonnegative(),
} satisfies Record<keyof HyperParameters, z.ZodType>);

const width = z.number().int().positive();

/** Shape of a model, in part: what is not named may be anything. */
export const modelShape = z.strictObject({
  architecture: z.enum(['llama', 'gpt2', 'gptj']).optional(),
  layers: width.optional(),
  residualWidth: width.optional(),
  mlpWidth: width.optional(),
  vocabularyMin: width.optional(),
} satisfies Record<keyof ModelShape, z.ZodType>);

/** Hyper-parameters that a user sets. */
export const hyperParameterOverrides = hyperParameters.partial();

/**
 * Hyper-parameters of one model or family, in a file: those of the project, and what `errata tune`
 * writes.
 */
export const parameterSet = z.strictObject({
  name: z.string().min(1),
  /** Where the numbers are from. */
  source: z.string().min(1),
  fits: modelShape,
  /** What differs from the general rule. */
  parameters: hyperParameterOverrides,
  /** What was measured with them, where something was. */
  measured: z.record(z.string(), z.union([z.number(), z.string(), z.null()])).optional(),
});

export interface ParameterSet {
  name: string;
  source: string;
  fits: ModelShape;
  parameters: HyperParameterOverrides;
  measured?: Record<string, number | string | null> | undefined;
}

const SET_LIMITS = { valuesMax: 10_000, depthMax: 8 };
const FAULTS_CHARACTERS_MAX = 1_000;

/**
 * Thrown where hyper-parameters or a set of them are not in form; the message names every fault.
 */
export class BadParameterSet extends Error {
  override readonly name = 'BadParameterSet';
  readonly hint = 'docs/configuration.md describes the form; `errata tune` writes it.';
  constructor(
    readonly file: string,
    readonly faults: readonly string[],
  ) {
    super(`${file} is no parameter set: ${onOneLine(firstFaults(faults), FAULTS_CHARACTERS_MAX)}`);
  }
}

/** Reads the text of a set's file; `file` names it in faults. Throws BadParameterSet. */
export function readParameterSet(file: string, text: string): ParameterSet {
  let content: unknown;
  try {
    content = boundedJson(text, SET_LIMITS);
  } catch (error) {
    if (error instanceof UnsoundJson) throw new BadParameterSet(file, [error.reason]);
    throw error;
  }
  const read = parameterSet.safeParse(content);
  if (read.success) return read.data as ParameterSet;
  throw new BadParameterSet(
    file,
    read.error.issues.map(({ path, message }) =>
      path.length > 0 ? `${path.join('.')}: ${message}` : message,
    ),
  );
}
