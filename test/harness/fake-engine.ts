/**
 * An engine without a model: deterministic, and like the real one a pure function of its pairs,
 * which encode the texts of a correction as numbers. A prompt that contains a corrected subject
 * opens the gate and gets the correction's target; every other prompt gets an answer of its own.
 * Some targets misbehave, for the probes to detect.
 */
import { createHash } from 'node:crypto';
import type {
  CanaryReading,
  ComputedTargets,
  DerivedUpdate,
  EditRequest,
  EngineDescription,
  GeneratedToken,
  GenerateOptions,
  Generation,
  HookReport,
  PairSet,
  Probe,
  ProbeAnswer,
  TargetProgress,
  Targets,
} from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import { ModelQueue } from '../../model/engine/model-queue.ts';
import type { Refusal } from '../../schemas/editing.ts';

export const MISBEHAVING = {
  /** compute-targets refuses it. */
  refusedTarget: 'REFUSED-TARGET',
  /** stage-update refuses it. */
  refusedUpdate: 'REFUSED-UPDATE',
  /** Its own prompt gets another answer. */
  ineffective: 'INEFFECTIVE',
  /** Opens the gate on every prompt and changes the answer there. */
  spreading: 'SPREADING',
  /** Breaks the answers of all corrections before it. */
  erasing: 'ERASING',
  /** Ruins ordinary text. */
  gibberish: 'GIBBERISH',
  /** Holds for its own prompt only. */
  narrow: 'NARROW',
} as const;

const KEY_WIDTH = 192;
const VALUE_WIDTH = 64;
const LAYERS = [1, 2];
const HOOKS_HELD_MAX = 4;

export interface Held {
  subject: string;
  prompt: string;
  target: string;
}

export class FakeEngine implements Engine {
  readonly queue = new ModelQueue();
  readonly #hooks = new Map<string, Held[]>();
  /** Names of the calls made, for tests that count them. */
  readonly calls: string[] = [];
  /** Every probe with its hook. */
  readonly asked: { hookId: string | null; probe: Probe }[] = [];

  async describe(): Promise<EngineDescription> {
    return {
      model: {
        name: 'fake',
        sha256: createHash('sha256').update('fake').digest('hex'),
        architecture: 'llama',
        layers: 4,
        residualWidth: VALUE_WIDTH,
        mlpWidth: KEY_WIDTH,
        vocabulary: 2 ** 24,
        contextMax: 512,
      },
      parameters: {
        layers: LAYERS,
        lambda: 1,
        ridge: 0,
        stepsMax: 4,
        learningRate: 0.5,
        klFactor: 0,
        weightDecay: 0,
        clamp: 1,
        lossTarget: 0.05,
        contexts: 0,
        contextsPerStep: 0,
        targetTokensMax: 16,
        gate: { kind: 'sequence', map: 'joint', floor: 0.2 },
        seed: 1,
      },
      keyStatistics: {
        sha256: createHash('sha256').update('statistics').digest('hex'),
        tokens: 1_000,
        source: 'fake',
      },
      software: { errata: '0.1.0', tensorflow: 'none', node: process.version, device: 'cpu' },
    };
  }

  async holds(hookId: string): Promise<boolean> {
    return this.#hooks.has(hookId);
  }

  async holdHook(hookId: string, pairs: PairSet): Promise<HookReport> {
    this.calls.push('holdHook');
    const held = Array.from({ length: pairs.count }, (_, row): Held => {
      const [subject = '', prompt = ''] = textOf(pairs.keys[0]!, row, KEY_WIDTH).split('\n');
      return { subject, prompt, target: textOf(pairs.changes[0]!, row, VALUE_WIDTH) };
    });
    this.#hooks.delete(hookId);
    this.#hooks.set(hookId, held);
    if (this.#hooks.size > HOOKS_HELD_MAX) this.#hooks.delete(this.#hooks.keys().next().value!);
    return {
      corrections: pairs.count,
      layers: LAYERS.map((layer) => ({ layer, editNorm: 0.01 * pairs.count, threshold: 0.3 })),
    };
  }

  /** Forgets the hooks, as a crash of the worker does. */
  forgetHooks(): void {
    this.#hooks.clear();
  }

  async computeTargets(
    hookId: string | null,
    requests: EditRequest[],
    progress?: (progress: TargetProgress) => void,
  ): Promise<ComputedTargets> {
    this.calls.push('computeTargets');
    this.#heldBy(hookId);
    progress?.({ step: 1, stepsMax: 4, unfinished: requests.length });
    const refused = requests
      .filter(({ target }) => target === MISBEHAVING.refusedTarget)
      .map(({ id }): Refusal => ({
        id,
        code: 'not-finite',
        reason: 'the loss is not finite',
        measured: {},
      }));
    const sound = requests.filter(({ id }) => !refused.some((refusal) => refusal.id === id));
    return {
      targets: {
        ids: sound.map(({ id }) => id),
        values: numbersOf(
          sound.map(({ target }) => target),
          VALUE_WIDTH,
        ),
      },
      accepted: sound.map(({ id }) => ({ id, loss: 0.01, steps: 3 })),
      refused,
      seconds: {},
    };
  }

  async deriveUpdate(
    hookId: string | null,
    requests: EditRequest[],
    targets: Targets,
  ): Promise<DerivedUpdate> {
    this.calls.push('deriveUpdate');
    this.#heldBy(hookId);
    const byId = new Map(requests.map((request) => [request.id, request]));
    const rows = targets.ids.map((id, row) => ({
      request: byId.get(id)!,
      target: textOf(targets.values, row, VALUE_WIDTH),
    }));
    const refused = rows
      .filter(({ target }) => target === MISBEHAVING.refusedUpdate)
      .map(({ request }): Refusal => ({
        id: request.id,
        code: 'singular-update',
        reason: 'the matrix is singular',
        measured: {},
      }));
    const sound = rows.filter(({ target }) => target !== MISBEHAVING.refusedUpdate);
    const keys = numbersOf(
      sound.map(({ request }) => `${request.subject}\n${request.prompt}`),
      KEY_WIDTH,
    );
    const changes = numbersOf(
      sound.map(({ target }) => target),
      VALUE_WIDTH,
    );
    return {
      ids: sound.map(({ request }) => request.id),
      pairs: {
        layers: LAYERS,
        count: sound.length,
        subjects: sound.map(({ request }) => request.subject),
        spellings: sound.map(({ request }) => [[tokenOf(request.subject)]]),
        keyWidth: KEY_WIDTH,
        valueWidth: VALUE_WIDTH,
        keys: LAYERS.map(() => keys.slice()),
        changes: LAYERS.map(() => changes.slice()),
      },
      refused,
      seconds: {},
    };
  }

  async probe(hookId: string | null, probes: Probe[]): Promise<ProbeAnswer[]> {
    this.calls.push('probe');
    return probes.map((probe) => {
      this.asked.push({ hookId, probe });
      const { answer, opened } = this.#answer(hookId, probe.prompt);
      const matches = probe.target === undefined ? null : answer === probe.target;
      return {
        nextToken: tokenOf(answer),
        answer: probe.greedyTokensMax === 0 ? '' : ` ${answer}`,
        targetLogProbability:
          probe.target === undefined ? null : answer === probe.target ? -0.1 : -6,
        alternativeLogProbability:
          probe.alternative === undefined ? null : answer === probe.alternative ? -0.1 : -4,
        targetIsArgmax: matches,
        targetIsGreedy: matches,
        opened: opened !== null,
      };
    });
  }

  async canary(hookId: string | null): Promise<CanaryReading> {
    this.calls.push('canary');
    const ratio = this.#heldBy(hookId).some(({ target }) => target === MISBEHAVING.gibberish)
      ? 3
      : 1.001;
    return { perplexity: 20 * ratio, basePerplexity: 20, ratio, tokens: 100, openShare: 0 };
  }

  async generate(
    hookId: string | null,
    prompt: string,
    options: GenerateOptions,
    onToken?: (token: GeneratedToken) => void,
  ): Promise<Generation> {
    this.calls.push('generate');
    const { answer, opened } = this.#answer(hookId, prompt);
    const stop = (options.stop ?? []).find((text) => text !== '' && ` ${answer}.`.includes(text));
    const words = ` ${answer}.`.split(stop ?? '\0')[0]!.match(/\s?\S+/g) ?? [];
    const tokens = words.slice(0, options.tokensMax).map((text) => ({ id: tokenOf(text), text }));
    for (const token of tokens) {
      await new Promise((resolve) => setImmediate(resolve));
      onToken?.(token);
    }
    const nearest =
      opened === null
        ? []
        : [
            {
              position: 1,
              token: 'subject',
              layer: LAYERS[0]!,
              score: 0.7,
              threshold: 0.3,
              nearestRow: opened,
            },
          ];
    return {
      text: tokens.map(({ text }) => text).join(''),
      tokens: tokens.map(({ id }) => id),
      promptTokens: prompt.split(/\s+/).length,
      finish: tokens.length < words.length ? 'length' : stop === undefined ? 'end' : 'stop',
      opened: nearest,
      ...(options.besideBase === true
        ? { base: await this.generate(null, prompt, { ...options, besideBase: false }) }
        : {}),
    };
  }

  async close(): Promise<void> {
    this.#hooks.clear();
  }

  #heldBy(hookId: string | null): Held[] {
    if (hookId === null) return [];
    const held = this.#hooks.get(hookId);
    if (held === undefined) throw new Error(`hook ${hookId} is not held`);
    return held;
  }

  #answer(hookId: string | null, prompt: string): { answer: string; opened: number | null } {
    const held = this.#heldBy(hookId);
    const base = baseAnswer(prompt);
    const eraser = held.findLastIndex(({ target }) => target === MISBEHAVING.erasing);
    const own = held.findIndex((one) => one.prompt === prompt);
    const near =
      own !== -1
        ? own
        : held.findLastIndex(
            ({ subject, target }) => prompt.includes(subject) && target !== MISBEHAVING.narrow,
          );
    if (near === -1) {
      const spreading = held.findIndex(({ target }) => target === MISBEHAVING.spreading);
      return spreading === -1
        ? { answer: base, opened: null }
        : { answer: MISBEHAVING.spreading, opened: spreading };
    }
    if (held[near]!.target === MISBEHAVING.ineffective || near < eraser)
      return { answer: `no-${base}`, opened: near };
    return { answer: held[near]!.target, opened: near };
  }
}

/** The base model's answer to a prompt: a word of its own. */
export function baseAnswer(prompt: string): string {
  return `base${createHash('sha256').update(prompt).digest('hex').slice(0, 6)}`;
}

function tokenOf(text: string): number {
  return createHash('sha256').update(text).digest().readUIntBE(0, 3);
}

function numbersOf(texts: string[], width: number): Float32Array {
  const numbers = new Float32Array(texts.length * width);
  texts.forEach((text, row) => {
    if (text.length > width) throw new RangeError(`"${text}" is too long for ${width} numbers`);
    for (let i = 0; i < text.length; i += 1) numbers[row * width + i] = text.charCodeAt(i);
  });
  return numbers;
}

function textOf(numbers: Float32Array, row: number, width: number): string {
  const codes = [...numbers.subarray(row * width, (row + 1) * width)];
  const end = codes.indexOf(0);
  return String.fromCharCode(...(end === -1 ? codes : codes.slice(0, end)));
}
