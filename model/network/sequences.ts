/**
 * Texts as the model reads them. Every sequence begins with the beginning-of-text token where the
 * model has one: the first position of a transformer is an attention sink whose key is the same
 * whatever stands there (METHOD of the project: a correction written at such a key would open the
 * gate on every prompt), so the sink is kept off the text.
 */
import type { EditRequest } from '../engine.ts';
import type { Refusal } from '../../schemas/editing.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** Tokens of a prompt, with what is put in front. */
export function promptTokens(tokenizer: Tokenizer, prompt: string): number[] {
  return [...frontTokens(tokenizer), ...tokenizer.encode(prompt)];
}

/**
 * What stands before every text: the token that separates documents where the model has one, else
 * its beginning-of-text token, else nothing. Not the beginning token of a chat model: behind
 * `<|im_start|>` SmolLM2's first token is itself a sink (22 % of first tokens' keys have a whitened
 * cosine above 0.6 with one another, against 2 % behind `<|endoftext|>`), and its loss on plain
 * text is higher.
 */
export function frontTokens(tokenizer: Tokenizer): number[] {
  const separator = tokenizer.encode(DOCUMENT_SEPARATOR);
  if (separator.length === 1) return separator;
  return tokenizer.beginToken === null ? [] : [tokenizer.beginToken];
}

const DOCUMENT_SEPARATOR = '<|endoftext|>';

/**
 * Tokens of an answer after the prompt, none for an empty one: a space stands between them unless
 * the prompt ends in white space.
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
  /** The prompt by itself. */
  bare: LocatedPrompt;
  /** The prompt behind other text, a space in front. */
  behind: LocatedPrompt;
  target: number[];
  /** The subject's name in tokens: by itself, behind a space, and as the prompt has it. */
  spellings: number[][];
}

export interface LocatedPrompt {
  tokens: number[];
  /** Index in `tokens` of the subject's first token. */
  subjectFirst: number;
  /** Index in `tokens` of the subject's last token. */
  subjectLast: number;
}

export interface EditLimits {
  targetTokensMax: number;
  promptTokensMax: number;
  /** Of prompt and target. */
  togetherTokensMax: number;
}

/** Reads a correction into tokens, or says why it cannot be edited. */
export function readEdit(
  tokenizer: Tokenizer,
  request: EditRequest,
  limits: EditLimits,
): EditSequence | Refusal {
  const refuse = (
    code: Refusal['code'],
    reason: string,
    measured: Refusal['measured'] = {},
  ): Refusal => ({ id: request.id, code, reason, measured });
  if (request.target.trim() === '') return refuse('empty-target', 'the target is empty');
  const subject = request.subject.trim();
  const at = subject === '' ? -1 : request.prompt.indexOf(subject);
  if (at < 0) return refuse('subject-not-in-prompt', 'the subject does not occur in the prompt');
  const end = at + subject.length;
  const bare = locate(tokenizer, request.prompt, at, end);
  const behind = locate(tokenizer, ` ${request.prompt}`, at + 1, end + 1);
  const target = answerTokens(tokenizer, request.prompt, request.target);
  if (target.length === 0) return refuse('empty-target', 'the target has no tokens');
  if (target.length > limits.targetTokensMax) {
    return refuse(
      'target-too-long',
      `the target has ${target.length} tokens, at most ${limits.targetTokensMax} are allowed`,
      { tokens: target.length },
    );
  }
  const long = Math.max(bare.tokens.length, behind.tokens.length);
  if (long > limits.promptTokensMax) {
    return refuse(
      'prompt-too-long',
      `the prompt has ${long} tokens, at most ${limits.promptTokensMax} are allowed`,
      { tokens: long },
    );
  }
  if (long + target.length > limits.togetherTokensMax) {
    return refuse(
      'prompt-too-long',
      `prompt and target have ${long + target.length} tokens together, at most ${limits.togetherTokensMax} fit the model's context`,
      { tokens: long + target.length },
    );
  }
  const named = ({ tokens, subjectFirst, subjectLast }: LocatedPrompt) =>
    tokens.slice(subjectFirst, subjectLast + 1);
  const spellings = [
    tokenizer.encode(subject),
    tokenizer.encode(` ${subject}`),
    named(bare),
    named(behind),
  ];
  return {
    id: request.id,
    subject,
    bare,
    behind,
    target,
    spellings: [...new Map(spellings.map((tokens) => [tokens.join(), tokens])).values()],
  };
}

/** Tokens of a text, and which of them cover the characters from `begin` to before `end`. */
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
