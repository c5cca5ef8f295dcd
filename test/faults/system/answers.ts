/** Answers of `serve` to the stream's prompts after a run, and the base model's answers. */
import { setTimeout as delay } from 'node:timers/promises';
import { recordCodec } from '../../../schemas/records/avro.ts';
import type { StreamRecord } from '../known-stream.ts';
import type { KeptProcess } from './kept-process.ts';
import { LINEAGE } from './system.ts';

export interface Answers {
  /** The version of the last answer. */
  version: number;
  texts: { prompt: string; text: string; base: string }[];
}

const PROMPTS_MAX = 60;
/** Followers poll every second and then have something to load. */
const FOLLOWED_WAIT_MS = 60_000;
const ASK_EVERY_MS = 500;
const ANSWER_WAIT_MS = 60_000;

/** Waits a while for `serve` to follow to `head`, and collects its answers either way. */
export async function finalAnswers(
  serve: KeptProcess,
  stream: readonly StreamRecord[],
  head: number,
): Promise<Answers> {
  await serve.ready();
  const prompts = promptsOf(stream);
  const ask = async (model: string, prompt: string) =>
    await complete({ port: serve.port!, model, prompt, tokensMax: 6 }, ANSWER_WAIT_MS);
  let { version } = await ask(LINEAGE, prompts[0]!);
  for (const end = Date.now() + FOLLOWED_WAIT_MS; version !== head && Date.now() < end;) {
    await delay(ASK_EVERY_MS);
    ({ version } = await ask(LINEAGE, prompts[0]!));
  }
  const texts: Answers['texts'] = [];
  for (const prompt of prompts) {
    const now = await ask(LINEAGE, prompt);
    const { text: base } = await ask(`${LINEAGE}@base`, prompt);
    texts.push({ prompt, text: now.text, base });
    version = now.version;
  }
  return { version, texts };
}

/** Prompts of the decodable records; a resubmitted record may be malformed. */
function promptsOf(stream: readonly StreamRecord[]): string[] {
  const codec = recordCodec('fact-correction');
  const prompts = new Set<string>();
  for (const { kind, value } of stream) {
    if (value === null || kind === 'malformed' || kind === 'unlearnable') continue;
    try {
      prompts.add(codec.decode(value).prompt);
    } catch {
      continue;
    }
  }
  return [...prompts].slice(0, PROMPTS_MAX);
}

interface Question {
  port: number;
  model: string;
  prompt: string;
  tokensMax: number;
}

/** Requests a completion from `serve` without sampling. */
export async function complete(
  { port, model, prompt, tokensMax }: Question,
  waitMs: number,
): Promise<{ text: string; version: number }> {
  const response = await fetch(`http://127.0.0.1:${port}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, prompt, max_tokens: tokensMax, temperature: 0 }),
    signal: AbortSignal.timeout(waitMs),
  });
  const body = (await response.json()) as {
    choices?: { text: string }[];
    errata?: { version: number };
  };
  const text = body.choices?.[0]?.text;
  const version = body.errata?.version;
  if (text === undefined || version === undefined)
    throw new Error(`serve answered ${response.status} ${JSON.stringify(body).slice(0, 200)}`);
  return { text, version };
}
