/** Hyper-parameters as data: those of a model, a user's overrides, and a set in a file. */
import { z } from 'zod';
import { boundedJson, UnsoundJson } from './encoding/bounded-json.ts';
import { faultsFound, firstFaults, onOneLine } from './encoding/excerpt.ts';

const gate = z.strictObject({
  kind: z.enum(['subject', 'sequence', 'always']),
  /**
   * The map that an open gate applies: the subject's own map (needs the `subject` gate), or the
   * joint map of all corrections.
   */
  map: z.enum(['subject', 'joint']),
  /** Threshold of the gate's score. The `sequence` gate lowers it by the paper's alpha rule. */
  floor: z.number(),
});

const hyperParameters = z.strictObject({
  /** Edited blocks, ascending. Targets are searched at the last one. */
  layers: z.array(z.number().int().nonnegative()).min(1),
  /** Weight of the key statistics: A starts at `lambda * C0`. Roughly F. */
  lambda: z.number().positive(),
  /** Added to the diagonal of A, in units of C0's mean diagonal. */
  ridge: z.number().nonnegative(),
  stepsMax: z.number().int().min(1).max(1_000),
  learningRate: z.number().positive(),
  klFactor: z.number().nonnegative(),
  weightDecay: z.number().nonnegative(),
  /** Upper bound of |delta| / |h|. */
  clamp: z.number().positive(),
  /** The search for a correction's target ends when its loss falls below this value. */
  lossTarget: z.number().nonnegative(),
  /** Number of prefixed contexts besides the bare prompt. */
  contexts: z.number().int().min(0).max(64),
  /**
   * Contexts that one optimiser step reads besides the bare prompt, drawn anew for each step. With
   * 0 the bare prompt and one context alternate.
   */
  contextsPerStep: z.number().int().min(0).max(64),
  targetTokensMax: z.number().int().min(1).max(256),
  gate,
  seed: z.number().int().nonnegative(),
});

/** Everything that determines how a batch edits a model; stored in the version it made. */
export type HyperParameters = z.infer<typeof hyperParameters>;
export type GateParameters = z.infer<typeof gate>;
export type GateKind = GateParameters['kind'];

/** Hyper-parameters set by a user. The rest are the model's defaults. */
export type HyperParameterOverrides = Partial<Omit<HyperParameters, 'gate'>> & {
  gate?: Partial<GateParameters>;
  /** The model that they were tuned for. They are refused on another one. */
  fits?: ModelShape;
};

export const hyperParameterOverrides = z.strictObject({
  ...hyperParameters.partial().shape,
  gate: gate.partial().optional(),
});

const count = z.number().int().positive();

const fullShape = z.strictObject({
  architecture: z.enum(['llama', 'gpt2', 'gptj']),
  layers: count,
  residualWidth: count,
  mlpWidth: count,
  /** Smallest number of embedding rows; it distinguishes model families of the same shape. */
  vocabularyMin: count,
});

/** Part of a model's shape. A missing member matches anything. */
export type ModelShape = Partial<z.infer<typeof fullShape>>;

/** A file of hyper-parameters for a model or family, from the project or `errata tune`. */
export const parameterSet = z.strictObject({
  name: z.string().min(1),
  /** The origin of the numbers. */
  source: z.string().min(1),
  fits: fullShape.partial(),
  /** Differences from the general rule. */
  parameters: hyperParameterOverrides,
  measured: z.record(z.string(), z.union([z.number(), z.string(), z.null()])).optional(),
});

export type ParameterSet = Omit<z.infer<typeof parameterSet>, 'fits' | 'parameters'> & {
  fits: ModelShape;
  parameters: HyperParameterOverrides;
};

const SET_LIMITS = { valuesMax: 10_000, depthMax: 8 };
const FAULTS_CHARACTERS_MAX = 1_000;

/** Malformed hyper-parameters. The message names the faults. */
export class BadParameterSet extends Error {
  override readonly name = 'BadParameterSet';
  readonly hint = 'docs/configuration.md describes the form; `errata tune` writes it.';
  constructor(
    readonly file: string,
    readonly faults: readonly string[],
  ) {
    const named = onOneLine(firstFaults(faults), FAULTS_CHARACTERS_MAX);
    super(`${file} is not a parameter set: ${named}`);
  }
}

/** Parses the text of a parameter set; `file` names it in faults. Throws BadParameterSet. */
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
  throw new BadParameterSet(file, faultsFound(read.error));
}
