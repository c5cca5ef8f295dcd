/** Keeps finished trials in a file, so that a stopped tuning can continue. */
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { z } from 'zod';

/** The measures that decide. Shares in [0, 1]; null if the facts have no such prompts. */
export interface Measures {
  efficacy: number;
  paraphrase: number | null;
  neighboursUnchanged: number | null;
  perplexityRatio: number;
}

export interface TrialLog {
  get(key: string): Measures | undefined;
  put(key: string, measures: Measures): Promise<void>;
}

/** Opens the log in a file; `fresh` empties it first. Throws `BadTrialLog` on any other file. */
export async function trialLogAt(file: string, fresh: boolean): Promise<TrialLog> {
  if (fresh) await rm(file, { force: true });
  const trials = new Map(Object.entries(await readTrials(file)));
  return {
    get: (key) => trials.get(key),
    async put(key, measures) {
      trials.set(key, measures);
      const partial = `${file}.${process.pid}.partial`;
      await writeFile(partial, `${JSON.stringify(Object.fromEntries(trials), null, 2)}\n`);
      await rename(partial, file);
    },
  };
}

export class BadTrialLog extends Error {
  override readonly name = 'BadTrialLog';
  readonly hint = 'Name another --out, or start anew with --fresh.';
  constructor(file: string, cause: unknown) {
    super(`${file} is not a file of finished trials`, { cause });
  }
}

const share = z.number().min(0).max(1);
const stored = z.record(
  z.string(),
  z.object({
    efficacy: share,
    paraphrase: share.nullable(),
    neighboursUnchanged: share.nullable(),
    perplexityRatio: z.number(),
  }),
);

async function readTrials(file: string): Promise<Record<string, Measures>> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '{}';
    throw error;
  });
  try {
    return stored.parse(JSON.parse(text));
  } catch (cause) {
    throw new BadTrialLog(file, cause);
  }
}
