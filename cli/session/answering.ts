/** Asks the model through a running `serve`, or loads one here behind the same routes. */
import type { Configuration, Secret } from '../../infra/config/configuration.ts';
import { openVersions } from '../../infra/config/open-versions.ts';
import { CommandFailure, failed, messageOf } from '../terminal/command-failure.ts';
import { EXIT } from '../terminal/exit-code.ts';

/** The address of a `serve`, and the token to send to it. */
export interface Server {
  url: string;
  token: Secret | null;
}

/** Calls a route, by GET if there is no body. Throws `CommandFailure` with the server's reason. */
export type Ask = (route: string, body?: unknown, waitMs?: number) => Promise<unknown>;

const ANSWER_WAIT_MS = 120_000;

/** Calls the running `serve`, or loads a model if none runs. */
export async function withAnswers<T>(
  configuration: Configuration,
  lineage: string,
  work: (ask: Ask) => Promise<T>,
): Promise<T> {
  const { url, token } = configuration.serve;
  return url === null
    ? await withLoadedModel(configuration, lineage, work)
    : await work(askOf({ url, token }));
}

export function askOf({ url, token }: Server): Ask {
  const authorization = token === null ? {} : { authorization: `Bearer ${token.reveal()}` };
  return async (route, body, waitMs = ANSWER_WAIT_MS) => {
    try {
      const response = await fetch(new URL(route, url), {
        method: body === undefined ? 'GET' : 'POST',
        headers: {
          ...authorization,
          ...(body !== undefined && { 'content-type': 'application/json' }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        // The token must not go to another server.
        redirect: 'error',
        signal: AbortSignal.timeout(waitMs),
      });
      return answerOf(response.status, await response.text());
    } catch (error) {
      if (error instanceof CommandFailure) throw error;
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
      throw failed(
        `${url} does not answer (${messageOf(cause)})`,
        '`errata status` shows whether `serve` runs.',
      );
    }
  };
}

export interface Question {
  lineage: string;
  prompt: string;
  /** Null for the newest. */
  version: number | null;
  tokensMax: number;
}

/** Returns one version's greedy answer. Throws `CommandFailure` with the server's reason. */
export async function answerOverHttp(
  server: Server,
  { lineage, version, prompt, tokensMax }: Question,
): Promise<string> {
  const model = version === null ? lineage : `${lineage}@${version === 0 ? 'base' : version}`;
  const body = { model, prompt, max_tokens: tokensMax, temperature: 0 };
  const answer = await askOf(server)('/v1/completions', body);
  return (answer as { choices: { text: string }[] }).choices[0]!.text;
}

/** Returns the lineages that the server shows. Throws `CommandFailure` with the server's reason. */
export async function lineagesOverHttp(server: Server): Promise<ServedLineage[]> {
  const { lineages } = (await askOf(server)('/v1/lineages')) as { lineages: ServedLineage[] };
  return lineages;
}

export interface ServedLineage {
  lineage: string;
  version: number | null;
  fault: string | null;
}

async function withLoadedModel<T>(
  configuration: Configuration,
  lineage: string,
  work: (ask: Ask) => Promise<T>,
): Promise<T> {
  const [{ LocalEngine }, { createServing }, { OPEN }, { engineOptions }, { pino }] =
    await Promise.all([
      import('../../model/engine/local-engine.ts'),
      import('../../serving/server.ts'),
      import('../../serving/access/access.ts'),
      import('../../infra/config/engine-options.ts'),
      import('pino'),
    ]);
  const engine = await LocalEngine.open(engineOptions(configuration));
  const serving = createServing({
    engine,
    versions: openVersions(configuration),
    logger: pino({ level: 'silent' }),
    users: () => OPEN,
    lineages: [lineage],
  });
  try {
    await serving.start();
    return await work(async (url, body) => {
      const response = await serving.server.inject({
        url,
        method: body === undefined ? 'GET' : 'POST',
        ...(body !== undefined && { payload: body as object }),
      });
      return answerOf(response.statusCode, response.body);
    });
  } finally {
    await serving.close();
    await engine.close();
  }
}

const HINTS: Record<number, string> = {
  401: `Give the token as ERRATA_TOKEN, or in a file that ERRATA_TOKEN_FILE names;
\`errata token create\` makes one where \`serve\` runs.`,
  403: '`errata token list`, where `serve` runs, shows what each token may do.',
  404: '`errata log` lists the versions.',
};

function answerOf(status: number, body: string): unknown {
  let content: unknown = null;
  try {
    content = JSON.parse(body);
  } catch {
    // The status is reported below.
  }
  if (status === 200 && content !== null) return content;
  const message =
    (content as { error?: { message?: string } } | null)?.error?.message ?? body.slice(0, 200);
  throw new CommandFailure(
    message === '' ? `the server answers with status ${status}` : message,
    HINTS[status]?.replace(/\s+/g, ' ') ?? null,
    status === 401 || status === 403 ? EXIT.usage : EXIT.failure,
  );
}
