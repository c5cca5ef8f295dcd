/**
 * Texts as the model reads them. Every sequence begins with a front token if the model has one: a
 * transformer's first position is an attention sink, whose key is the same for every text. A
 * correction written at such a key would open the gate on every prompt.
 */
import type { FactCorrection } from '../../schemas/correction.ts';
import type { Refusal } from '../../schemas/editing.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** Returns the tokens of a prompt, preceded by the front token. */
export function promptTokens(tokenizer: Tokenizer, prompt: string): number[] {
  return [...frontTokens(tokenizer), ...tokenizer.encode(prompt)];
}

/**
 * Returns the token before every text: the one that separates documents if the model has one, else
 * its beginning-of-text token, else none. After `<|im_start|>`, SmolLM2's beginning token, the
 * first token is itself a sink: 22 % of first tokens' keys have a whitened cosine above 0.6 with
 * one another, against 2 % after `<|endoftext|>`, and the loss on plain text is higher.
 */
export function frontTokens(tokenizer: Tokenizer): number[] {
  const separator = tokenizer.encode(DOCUMENT_SEPARATOR);
  if (separator.length === 1) return separator;
  return tokenizer.beginToken === null ? [] : [tokenizer.beginToken];
}

const DOCUMENT_SEPARATOR = '<|endoftext|>';

/**
 * Returns the tokens of an answer, after a space unless the prompt ends in white space; none if the
 * answer is empty.
 */
export function answerTokens(tokenizer: Tokenizer, prompt: string, answer: string): number[] {
  const text = answer.trim();
  if (text === '') return [];
  return tokenizer.encode(/\s$/u.test(prompt) || prompt === '' ? text : ` ${text}`);
}

/** A correction's prompt and target in tokens. */
export interface EditSequence {
  id: string;
  subject: string;
  bare: LocatedPrompt;
  /** The prompt as it follows other text, with a space in front. */
  behind: LocatedPrompt;
  target: number[];
  /** The subject's name in tokens: alone, after a space, and in the prompt. */
  spellings: number[][];
}

export interface LocatedPrompt {
  tokens: number[];
  subjectFirst: number;
  /** Index in `tokens` of the subject's last token. */
  subjectLast: number;
}

interface EditLimits {
  targetTokensMax: number;
  promptTokensMax: number;
  /** Bound of the prompt and the target together. */
  togetherTokensMax: number;
}

/** Converts a correction to tokens, or returns the reason it cannot be edited. */
export function readEdit(
  tokenizer: Tokenizer,
  request: Pick<FactCorrection, 'id' | 'subject' | 'prompt' | 'target'>,
  limits: EditLimits,
): EditSequence | Refusal {
  const { id, prompt } = request;
  const refuse = (code: Refusal['code'], reason: string) => ({ id, code, reason, measured: {} });
  if (request.target.trim() === '') return refuse('empty-target', 'the target is empty');
  const subject = request.subject.trim();
  const at = subject === '' ? -1 : prompt.indexOf(subject);
  if (at < 0) return refuse('subject-not-in-prompt', 'the subject does not occur in the prompt');
  const end = at + subject.length;
  const bare = locate(tokenizer, prompt, at, end);
  const behind = locate(tokenizer, ` ${prompt}`, at + 1, end + 1);
  const target = answerTokens(tokenizer, prompt, request.target);
  if (target.length === 0) return refuse('empty-target', 'the target has no tokens');
  const promptTokens = Math.max(bare.tokens.length, behind.tokens.length);
  const long = tooLong(promptTokens, target.length, limits);
  if (long !== null) return { id, ...long };
  const named = ({ tokens, subjectFirst, subjectLast }: LocatedPrompt) =>
    tokens.slice(subjectFirst, subjectLast + 1);
  const alone = [subject, ` ${subject}`].map((text) => tokenizer.encode(text));
  const spellings = [...alone, named(bare), named(behind)];
  const distinct = new Map(spellings.map((tokens) => [tokens.join(), tokens]));
  return { id, subject, bare, behind, target, spellings: [...distinct.values()] };
}

function tooLong(prompt: number, target: number, limits: EditLimits): Omit<Refusal, 'id'> | null {
  const { targetTokensMax, promptTokensMax, togetherTokensMax } = limits;
  const together = prompt + target;
  const bounds: [Refusal['code'], tokens: number, max: number, reason: string][] = [
    ['target-too-long', target, targetTokensMax, 'the target has $, at most # are allowed'],
    ['prompt-too-long', prompt, promptTokensMax, 'the prompt has $, at most # are allowed'],
    [
      'prompt-too-long',
      together,
      togetherTokensMax,
      "prompt and target have $ together, at most # fit the model's context",
    ],
  ];
  const passed = bounds.find(([, tokens, max]) => tokens > max);
  if (passed === undefined) return null;
  const [code, tokens, max, reason] = passed;
  return {
    code,
    reason: reason.replace('$', `${tokens} tokens`).replace('#', String(max)),
    measured: { tokens },
  };
}

/** Returns a text's tokens, and those that cover the characters [begin, end). */
export function locate(
  tokenizer: Tokenizer,
  text: string,
  begin: number,
  end: number,
): LocatedPrompt {
  const { ids, starts, ends } = tokenizer.encodeWithOffsets(text);
  let subjectLast = ids.length - 1;
  for (let i = 0; i < ids.length; i++) if (starts[i]! < end && ends[i]! >= end) subjectLast = i;
  const first = ids.findIndex((_, i) => ends[i]! > begin);
  return {
    tokens: ids,
    subjectFirst: first < 0 ? subjectLast : Math.min(first, subjectLast),
    subjectLast,
  };
}

export function isRefusal(read: EditSequence | Refusal): read is Refusal {
  return 'code' in read;
}
