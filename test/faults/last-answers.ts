/**
 * What `serve` says of the stream's prompts when all is done: as it is asked without a version, and
 * of the base model.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { recordCodec } from '../../schemas/records/avro.ts';
import type { KeptProcess } from './kept-process.ts';
import type { StreamRecord } from './known-stream.ts';
import { LINEAGE } from './system.ts';

export interface Answered {
  /** Of the last answer. */
  version: number;
  texts: { prompt: string; text: string; base: string }[];
}

const PROMPTS_MAX = 60;
/** Followers look every second, and then have something to load. */
const FOLLOWED_WAIT_MS = 60_000;
const ASK_EVERY_MS = 500;
const ANSWER_WAIT_MS = 60_000;

/** `head`: what it is to follow; whether it did is in the answers. */
export async function lastAnswers(
  serve: KeptProcess,
  stream: readonly StreamRecord[],
  head: number,
): Promise<Answered> {
  await serve.ready();
  const prompts = promptsOf(stream);
  let { version } = await ask(serve, LINEAGE, prompts[0]!);
  for (
    const until = Date.now() + FOLLOWED_WAIT_MS;
    version !== head && Date.now() < until;
    await delay(ASK_EVERY_MS)
  )
    ({ version } = await ask(serve, LINEAGE, prompts[0]!));
  const texts: Answered['texts'] = [];
  for (const prompt of prompts) {
    const now = await ask(serve, LINEAGE, prompt);
    const { text: base } = await ask(serve, `${LINEAGE}@base`, prompt);
    texts.push({ prompt, text: now.text, base });
    version = now.version;
  }
  return { version, texts };
}

function promptsOf(stream: readonly StreamRecord[]): string[] {
  const prompts = new Set<string>();
  for (const { kind, value } of stream)
    if (value !== null && kind !== 'malformed' && kind !== 'unlearnable')
      prompts.add(promptOf(value));
  prompts.delete('');
  return [...prompts].slice(0, PROMPTS_MAX);
}

/** Empty where it is none: what is sent again may be anything. */
function promptOf(value: Buffer): string {
  try {
    return recordCodec('fact-correction').decode(value).prompt;
  } catch {
    return '';
  }
}

async function ask(
  serve: KeptProcess,
  model: string,
  prompt: string,
): Promise<{ text: string; version: number }> {
  const response = await fetch(`http://127.0.0.1:${serve.port}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, prompt, max_tokens: 6, temperature: 0 }),
    signal: AbortSignal.timeout(ANSWER_WAIT_MS),
  });
  const body = (await response.json()) as {
    choices?: { text: string }[];
    errata?: { version: number };
  };
  const text = body.choices?.[0]?.text;
  if (text === undefined || body.errata === undefined)
    throw new Error(`serve answered ${response.status} ${JSON.stringify(body).slice(0, 200)}`);
  return { text, version: body.errata.version };
}
