/**
 * An answer before and after, from a `serve` that runs, or from a model loaded here by the same
 * code.
 */
import type { Configuration } from '../../infra/config/configuration.ts';
import { askOf, withModelHere, type Server } from './answering.ts';

export interface Question {
  lineage: string;
  prompt: string;
  /** Null: the newest. */
  version: number | null;
  tokensMax: number;
}

export interface Comparison {
  lineage: string;
  version: number;
  prompt: string;
  base: { text: string; finish: string };
  edited: {
    text: string;
    finish: string;
    opened: {
      position: number;
      token: string;
      layer: number;
      score: number;
      threshold: number;
      correction: {
        id: string;
        prompt: string;
        target: string;
        source: string;
        version: number;
      } | null;
    }[];
  };
}

/** Throws `CommandFailure` with what the server says. */
export async function compareOverHttp(server: Server, question: Question): Promise<Comparison> {
  return (await askOf(server)('/v1/compare', question)) as Comparison;
}

/** The greedy answer of one version. Throws `CommandFailure` with what the server says. */
export async function answerOverHttp(
  server: Server,
  { lineage, version, prompt, tokensMax }: Question,
): Promise<string> {
  const model = version === null ? lineage : `${lineage}@${version === 0 ? 'base' : version}`;
  const answer = (await askOf(server)('/v1/completions', {
    model,
    prompt,
    max_tokens: tokensMax,
    temperature: 0,
  })) as { choices: { text: string }[] };
  return answer.choices[0]!.text;
}

/**
 * The lineages that the server shows, with the version that it serves of each. Throws
 * `CommandFailure` with what the server says.
 */
export async function lineagesOverHttp(
  server: Server,
): Promise<{ lineage: string; version: number | null; fault: string | null }[]> {
  return (
    (await askOf(server)('/v1/lineages')) as {
      lineages: Awaited<ReturnType<typeof lineagesOverHttp>>;
    }
  ).lineages;
}

/** Loads the model in this process: for when nothing runs. */
export async function compareHere(
  configuration: Configuration,
  question: Question,
): Promise<Comparison> {
  return await withModelHere(
    configuration,
    question.lineage,
    async (ask) => (await ask('/v1/compare', question)) as Comparison,
  );
}
