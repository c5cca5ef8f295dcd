/** Generates the answer to one prompt and reports the gates that opened. */
import type { GeneratedToken, GenerateOptions, Generation, PairSet } from '../engine-types.ts';
import { FirstSequenceHook } from '../hook/first-sequence-hook.ts';
import type { Hook } from '../hook/hook.ts';
import { decodeFrom, prefill } from '../network/decode.ts';
import { promptTokens } from '../network/sequences.ts';
import { seededRandom } from '../tensor/random.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { breathe, type HeldHook } from './edit.ts';
import { SHUT_GATES_MAX } from './engine.ts';
import type { LoadedModel } from './loaded-model.ts';

interface Question {
  prompt: string;
  options: GenerateOptions;
  onToken?: ((token: GeneratedToken) => void) | undefined;
}

/** Throws RangeError if the prompt has no tokens or does not fit the model's context. */
export async function generate(
  { model, checkpoint: { tokenizer } }: LoadedModel,
  { hook, pairs }: HeldHook,
  { prompt, options, onToken }: Question,
): Promise<Generation> {
  const { contextMax, mlpWidth } = model.config;
  const tokens = fittingPrompt(tokenizer, prompt, contextMax);
  requirePlainDecoding(options);
  const beside = options.besideBase === true && hook !== null ? new FirstSequenceHook(hook) : null;
  const reader = new Reader(tokenizer, [...tokens]);
  const stopWatch = hook === null ? null : reader.watch(hook, pairs!, { mlpWidth, ...options });
  const answer = new Answer(tokenizer, options.stop ?? [], onToken);
  try {
    const both = beside === null ? [tokens] : [tokens, tokens];
    const start = prefill(model, both, beside ?? hook);
    const [, baseAnswer] = await decodeFrom(model, start, {
      tokensMax: Math.min(options.tokensMax, contextMax - tokens.length),
      temperature: options.temperature,
      topP: options.topP ?? 1,
      random: seededRandom(options.seed ?? Math.floor(Math.random() * 2 ** 32)),
      hook: beside ?? hook,
      stop: (sequence, soFar) => {
        if (sequence > 0) return answer.ends.has(soFar.at(-1)!);
        reader.read(soFar.at(-1)!);
        const isDone = answer.take(soFar);
        if (beside !== null && answer.finish === 'end') beside.ended = true;
        return isDone;
      },
      between: breathe,
    });
    const { text, finish } = answer.whole();
    return {
      text,
      tokens: answer.tokens,
      promptTokens: tokens.length,
      finish,
      opened: reader.opened,
      ...(options.besideBase === true
        ? { base: baseAnswer === undefined ? { text, finish } : answer.finished(baseAnswer) }
        : {}),
      ...(options.explain === true ? { shut: reader.shut } : {}),
    };
  } finally {
    stopWatch?.();
  }
}

function fittingPrompt(tokenizer: Tokenizer, prompt: string, contextMax: number): number[] {
  const tokens = promptTokens(tokenizer, prompt);
  if (tokens.length === 0) throw new RangeError('the prompt has no tokens');
  if (tokens.length >= contextMax)
    throw new RangeError(
      `the prompt has ${tokens.length} tokens; the model's context is ${contextMax}`,
    );
  return tokens;
}

function requirePlainDecoding({ besideBase, temperature, stop = [] }: GenerateOptions): void {
  if (besideBase === true && (temperature !== 0 || stop.length > 0))
    throw new RangeError('the base answers beside a hook only by greedy decoding without stops');
}

type Gate = Generation['opened'][number];

/** Tracks the tokens that the model reads and notes where gates opened or stayed shut. */
class Reader {
  readonly opened: Gate[] = [];
  readonly shut: Gate[] = [];
  /** The position of the first token in the model's next pass. */
  private position = 0;

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly tokens: number[],
  ) {}

  /** Adds a decoded token, which the next pass reads. */
  read(token: number): void {
    this.position = this.tokens.length;
    this.tokens.push(token);
  }

  /** Observes the hook's gates; returns the function that stops it. */
  watch(
    hook: Hook,
    pairs: PairSet,
    { mlpWidth, explain }: { mlpWidth: number; explain?: boolean | undefined },
  ): () => void {
    const views = pairs.keyWidth / mlpWidth;
    const gate = (layer: number, at: { row: number; score: number; nearest: number }): Gate => ({
      position: this.position + at.row,
      token: this.tokenizer.tokenText(this.tokens[this.position + at.row]!),
      layer,
      score: at.score,
      threshold: hook.thresholds.get(layer)!,
      nearestRow: Math.floor(at.nearest / views),
    });
    hook.openObserver = (layer, rows, scores, nearestOf) => {
      const nearest = nearestOf();
      const open = Array.from(rows.keys()).filter((row) => rows[row] === 1);
      open.forEach((row, i) =>
        this.opened.push(gate(layer, { row, score: scores[row]!, nearest: nearest[i]! })),
      );
    };
    if (explain === true)
      hook.shutObserver = (layer, rows) => {
        for (const one of rows.slice(0, SHUT_GATES_MAX - this.shut.length))
          this.shut.push(gate(layer, one));
      };
    return () => {
      hook.openObserver = hook.shutObserver = null;
    };
  }
}

/** The answer as it grows, token by token, up to an end token or a stop text. */
class Answer {
  finish: Generation['finish'] = 'length';
  /** Without the end token. */
  tokens: number[] = [];
  readonly ends: ReadonlySet<number>;
  private text = '';

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly stops: readonly string[],
    private readonly onToken: Question['onToken'],
  ) {
    this.ends = new Set(tokenizer.endTokens);
  }

  /** Takes all tokens so far. Returns true when the answer ends. */
  take(soFar: readonly number[]): boolean {
    const last = soFar.at(-1)!;
    this.tokens = soFar.filter((token) => !this.ends.has(token));
    if (this.ends.has(last)) {
      this.finish = 'end';
      return true;
    }
    const whole = this.tokenizer.decode([...soFar]);
    const cut = firstStop(whole, this.stops);
    const shown = cut < 0 ? whole : whole.slice(0, cut);
    // A character is shown only when all its bytes are there.
    if (cut >= 0 || !shown.endsWith('\uFFFD')) {
      this.onToken?.({ id: last, text: shown.slice(this.text.length) });
      this.text = shown;
    }
    if (cut >= 0) this.finish = 'stop';
    return cut >= 0;
  }

  whole(): { text: string; finish: Generation['finish'] } {
    const text = this.finish === 'stop' ? this.text : this.tokenizer.decode(this.tokens);
    return { text, finish: this.finish };
  }

  /** Returns another answer, decoded without stop texts. */
  finished(tokens: readonly number[]): NonNullable<Generation['base']> {
    return {
      text: this.tokenizer.decode(tokens.filter((token) => !this.ends.has(token))),
      finish: this.ends.has(tokens.at(-1)!) ? 'end' : 'length',
    };
  }
}

function firstStop(text: string, stops: readonly string[]): number {
  const found = stops
    .filter((stop) => stop !== '')
    .map((stop) => text.indexOf(stop))
    .filter((at) => at >= 0);
  return found.length === 0 ? -1 : Math.min(...found);
}
