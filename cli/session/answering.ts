/**
 * Answers of the model, from a `serve` that runs, or from a model loaded here behind the same
 * routes.
 */
import type { Configuration, Secret } from '../../infra/config/configuration.ts';
import { openVersions } from '../../infra/config/open-versions.ts';
import { CommandFailure } from './command-failure.ts';
import { EXIT } from '../terminal/exit-code.ts';

/** Where a `serve` is, and what is shown to it. */
export interface Server {
  url: string;
  token: Secret | null;
}

/**
 * Asks a route, by GET where there is no body. Throws `CommandFailure` with what the server says.
 */
export type Ask = (route: string, body?: unknown, waitMs?: number) => Promise<unknown>;

const ANSWER_WAIT_MS = 120_000;

/**
 * Lets the work ask: the running `serve`, or where there is none, a model that is loaded for it.
 */
export async function withAnswers<T>(
  configuration: Configuration,
  lineage: string,
  work: (ask: Ask) => Promise<T>,
): Promise<T> {
  const { url, token } = configuration.serve;
  return url === null
    ? await withModelHere(configuration, lineage, work)
    : await work(askOf({ url, token }));
}

export function askOf({ url, token }: Server): Ask {
  return async (route, body, waitMs = ANSWER_WAIT_MS) => {
    const authorization = token === null ? {} : { authorization: `Bearer ${token.reveal()}` };
    let response: Response;
    let text: string;
    try {
      response = await fetch(new URL(route, url), {
        ...(body === undefined
          ? { headers: authorization }
          : {
              method: 'POST',
              headers: { 'content-type': 'application/json', ...authorization },
              body: JSON.stringify(body),
            }),
        // A token is for this server, not for where it may send us.
        redirect: 'error',
        signal: AbortSignal.timeout(waitMs),
      });
      text = await response.text();
    } catch (error) {
      const cause =
        error instanceof Error && error.cause instanceof Error
          ? error.cause.message
          : error instanceof Error
            ? error.message
            : String(error);
      throw new CommandFailure(
        'ask the model',
        `${url} does not answer (${cause})`,
        '`errata status` shows whether `serve` runs.',
      );
    }
    return answerOf(response.status, text);
  };
}

/** A question to one version. */
export interface Question {
  lineage: string;
  prompt: string;
  /** Null: the newest. */
  version: number | null;
  tokensMax: number;
}

/** An answer before and after editing. */
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

/** Loads the model in this process. */
export async function withModelHere<T>(
  configuration: Configuration,
  lineage: string,
  work: (ask: Ask) => Promise<T>,
): Promise<T> {
  const [{ LocalEngine }, { createServing }, { OPEN }, { SILENT_SERVER_LOG }, { engineOptions }] =
    await Promise.all([
      import('../../model/engine/local-engine.ts'),
      import('../../serving/server.ts'),
      import('../../serving/access/access.ts'),
      import('../terminal/silent-log.ts'),
      import('../../infra/config/engine-options.ts'),
    ]);
  const engine = await LocalEngine.open(engineOptions(configuration));
  const serving = createServing({
    engine,
    versions: openVersions(configuration),
    logger: SILENT_SERVER_LOG,
    users: () => OPEN,
    lineages: [lineage],
  });
  try {
    await serving.start();
    return await work(async (url, body) => {
      const response = await serving.server.inject(
        body === undefined
          ? { method: 'GET', url }
          : { method: 'POST', url, payload: body as object },
      );
      return answerOf(response.statusCode, response.body);
    });
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
  const message =
    (content as { error?: { message?: string } } | null)?.error?.message ?? body.slice(0, 200);
  const refused = status === 401 || status === 403;
  throw new CommandFailure(
    'ask the model',
    message === '' ? `the server answers with status ${status}` : message,
    MENDS[status] ?? null,
    refused ? EXIT.usage : EXIT.failure,
  );
}
