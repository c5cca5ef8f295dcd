/** An answer before and after, from a `serve` that runs, or from a model loaded here by the same code. */
import { engineOptions } from '../infra/engine-options.ts';
import type { Configuration, Secret } from '../infra/configuration.ts';
import { openVersions } from '../infra/open-versions.ts';
import { CommandFailure } from './command-failure.ts';
import { EXIT } from './exit-code.ts';

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
  edited: { text: string; finish: string; opened: { position: number; token: string; layer: number; score: number; threshold: number; correction: { id: string; prompt: string; target: string; source: string; version: number } | null }[] };
}

/** Where a `serve` is, and what is shown to it. */
export interface Server {
  url: string;
  token: Secret | null;
}

const ANSWER_WAIT_MS = 120_000;

/** Throws `CommandFailure` with what the server says. */
export async function compareOverHttp(server: Server, question: Question): Promise<Comparison> {
  return (await call(server, '/v1/compare', question)) as Comparison;
}

/** The greedy answer of one version. Throws `CommandFailure` with what the server says. */
export async function answerOverHttp(server: Server, { lineage, version, prompt, tokensMax }: Question): Promise<string> {
  const model = version === null ? lineage : `${lineage}@${version === 0 ? 'base' : version}`;
  const answer = (await call(server, '/v1/completions', { model, prompt, max_tokens: tokensMax, temperature: 0 })) as { choices: { text: string }[] };
  return answer.choices[0]!.text;
}

/** The lineages that the server shows, with the version that it serves of each. Throws `CommandFailure` with what the server says. */
export async function lineagesOverHttp(server: Server): Promise<{ lineage: string; version: number | null; fault: string | null }[]> {
  return ((await call(server, '/v1/lineages')) as { lineages: Awaited<ReturnType<typeof lineagesOverHttp>> }).lineages;
}

/** By GET where there is no body. */
async function call({ url, token }: Server, route: string, body?: unknown): Promise<unknown> {
  const authorization = token === null ? {} : { authorization: `Bearer ${token.reveal()}` };
  let response: Response;
  try {
    response = await fetch(new URL(route, url), {
      ...(body === undefined ? { headers: authorization } : { method: 'POST', headers: { 'content-type': 'application/json', ...authorization }, body: JSON.stringify(body) }),
      // A token is for this server, not for where it may send us.
      redirect: 'error',
      signal: AbortSignal.timeout(ANSWER_WAIT_MS),
    });
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : error instanceof Error ? error.message : String(error);
    throw new CommandFailure('ask the model', `${url} does not answer (${cause})`, '`errata status` shows whether `serve` runs.');
  }
  return answerOf(response.status, await response.text());
}

/** Loads the model in this process: for when nothing runs. */
export async function compareHere(configuration: Configuration, question: Question): Promise<Comparison> {
  const [{ LocalEngine }, { createServing }, { OPEN }, { SILENT_SERVER_LOG }] = await Promise.all([import('../model/local-engine.ts'), import('../serving/server.ts'), import('../serving/access.ts'), import('./silent-log.ts')]);
  const engine = await LocalEngine.open(engineOptions(configuration));
  const serving = createServing({ engine, versions: openVersions(configuration), logger: SILENT_SERVER_LOG, users: () => OPEN, lineages: [question.lineage] });
  try {
    await serving.start();
    const response = await serving.server.inject({ method: 'POST', url: '/v1/compare', payload: question });
    return answerOf(response.statusCode, response.body) as Comparison;
  } finally {
    await serving.close();
    await engine.close();
  }
}

const MENDS: Record<number, string> = {
  401: 'ERRATA_TOKEN (or a file, with ERRATA_TOKEN_FILE) gives the token; where `serve` runs, `errata token create` makes one.',
  403: '`errata token list`, where `serve` runs, says what each token may do.',
  404: 'errata log lists the versions.',
};

function answerOf(status: number, body: string): unknown {
  let content: unknown;
  try {
    content = JSON.parse(body);
  } catch {
    content = null;
  }
  if (status === 200 && content !== null) return content;
  const message = (content as { error?: { message?: string } } | null)?.error?.message ?? body.slice(0, 200);
  const refused = status === 401 || status === 403;
  throw new CommandFailure('ask the model', message === '' ? `the server answers with status ${status}` : message, MENDS[status] ?? null, refused ? EXIT.usage : EXIT.failure);
}
