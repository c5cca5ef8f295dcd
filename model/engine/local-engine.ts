/**
 * The engine in this thread: model, key statistics, priors and the hooks held, behind the Engine
 * interface.
 */
import { readFileSync } from 'node:fs';
import { LRUCache } from 'lru-cache';
import type {
  GateParameters,
  HyperParameterOverrides,
  HyperParameters,
  Refusal,
} from '../../schemas/editing.ts';
import { FirstSequenceHook } from '../hook/first-sequence-hook.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import { decodeFrom, prefill } from '../network/decode.ts';
import { Transformer } from '../network/transformer.ts';
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
} from '../engine-types.ts';
import type { Engine } from './engine.ts';
import { HOOKS_HELD_MAX, SHUT_GATES_MAX } from './engine.ts';
import { NotPositiveDefinite } from '../tensor/float64.ts';
import { Hook } from '../hook/hook.ts';
import { HookCache } from '../hook/hook-cache.ts';
import type { KeyStatistics } from '../statistics/key-statistics.ts';
import { disposeStatistics, keyStatistics } from '../statistics/key-statistics.ts';
import { ModelQueue } from './model-queue.ts';
import { parametersFor } from './parameters.ts';
import { sharingRows } from '../hook/pair-rows.ts';
import { perplexityOf, sequenceLosses } from '../network/perplexity.ts';
import type { Prior } from '../statistics/prior.ts';
import { buildPriors, disposePriors } from '../statistics/prior.ts';
import { keptPriors } from '../statistics/prior-cache.ts';
import { probeModel } from '../editing/probe.ts';
import { seededRandom } from '../tensor/random.ts';
import type { EditSequence } from '../network/sequences.ts';
import { frontTokens, isRefusal, promptTokens, readEdit } from '../network/sequences.ts';
import { findTargets } from '../editing/targets.ts';
import { deviceSeen, loadTensorFlow, tensorflowVersion } from '../tensor/tensorflow.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { derivePairs } from '../editing/update.ts';

export interface EngineOptions {
  addonPath: string;
  modelPath: string;
  /** Cache of key statistics; null keeps nothing. */
  statisticsFolder: string | null;
  /** Ordinary text for the key statistics; null: the model's own samples. */
  textFile: string | null;
  parameters: HyperParameterOverrides;
}

export type LoadProgress = (step: string, share: number) => void;

/** Thrown when a hook is named that is not held. */
export class HookNotHeld extends Error {
  override readonly name = 'HookNotHeld';
  constructor(readonly hookId: string) {
    super(`the engine holds no hook ${hookId}; hold it first`);
  }
}

export class LocalEngine implements Engine {
  private readonly hooks = new LRUCache<string, { hook: Hook | null; pairs: PairSet }>({
    max: HOOKS_HELD_MAX,
    dispose: ({ hook }) => hook?.dispose(),
  });
  private readonly cache = new HookCache();
  readonly queue = new ModelQueue();

  private constructor(
    private readonly checkpoint: Checkpoint,
    private readonly model: Transformer,
    private readonly statistics: KeyStatistics,
    private readonly priors: Map<number, Prior>,
    private readonly parameters: HyperParameters,
  ) {}

  static async open(options: EngineOptions, progress?: LoadProgress): Promise<LocalEngine> {
    loadTensorFlow(options.addonPath);
    const checkpoint = await openCheckpoint(options.modelPath);
    const opened: (() => unknown)[] = [() => checkpoint.close()];
    try {
      const parameters = parametersFor(checkpoint.config, options.parameters);
      const model = await Transformer.load(checkpoint, (share) =>
        progress?.('loading the model', share),
      );
      opened.push(() => model.dispose());
      const statistics = await keyStatistics(model, checkpoint.tokenizer, {
        layers: parameters.layers,
        textFile: options.textFile,
        folder: options.statisticsFolder,
        modelSha256: checkpoint.sha256,
        seed: parameters.seed,
        contexts: parameters.contexts,
        ...(progress === undefined ? {} : { progress }),
      });
      opened.push(() => disposeStatistics(statistics));
      progress?.('inverting key statistics', 0);
      const priors = await keptPriors(
        () => buildPriors(model, statistics, parameters),
        statistics,
        parameters,
        options.statisticsFolder,
      );
      opened.push(() => disposePriors(priors));
      progress?.('inverting key statistics', 1);
      return new LocalEngine(checkpoint, model, statistics, priors, parameters);
    } catch (error) {
      for (const undo of opened.reverse()) await undo();
      throw error;
    }
  }

  async describe(): Promise<EngineDescription> {
    const { config, name, sha256 } = this.checkpoint;
    return {
      model: {
        name,
        sha256,
        architecture: config.architecture,
        layers: config.layers,
        residualWidth: config.residualWidth,
        mlpWidth: config.mlpWidth,
        vocabulary: config.vocabulary,
        contextMax: config.contextMax,
      },
      parameters: this.parameters,
      keyStatistics: {
        sha256: this.statistics.sha256,
        tokens: this.statistics.tokens,
        source: this.statistics.source,
      },
      software: {
        errata: SOFTWARE_VERSION,
        tensorflow: tensorflowVersion(),
        node: process.versions.node,
        device: deviceSeen(),
      },
    };
  }

  async holds(hookId: string): Promise<boolean> {
    // Who asks wants it: it is not the next one to be forgotten.
    return this.hooks.get(hookId) !== undefined;
  }

  /** With another gate than the engine's own, the name must tell so. */
  holdHook(
    hookId: string,
    pairs: PairSet,
    gate: GateParameters = this.parameters.gate,
  ): Promise<HookReport> {
    return this.queue.call(async () => {
      const known = this.hooks.get(hookId);
      if (known === undefined) {
        const hook = pairs.count === 0 ? null : Hook.build(pairs, this.priors, gate, this.cache);
        for (const held of this.hooks.values()) held.pairs = sharingRows(held.pairs, pairs);
        this.hooks.set(hookId, { hook, pairs });
      }
      return this.hooks.get(hookId)!.hook?.report ?? emptyReport(this.parameters);
    });
  }

  computeTargets(
    hookId: string | null,
    requests: EditRequest[],
    progress?: (progress: TargetProgress) => void,
  ): Promise<ComputedTargets> {
    return this.queue.call(async () => {
      const { edits, refused } = this.read(requests);
      const D = this.model.config.residualWidth;
      if (edits.length === 0)
        return {
          targets: { ids: [], values: new Float32Array(0) },
          accepted: [],
          refused,
          seconds: {},
        };
      const found = await findTargets([...edits, ...this.alongside(requests)], {
        model: this.model,
        tokenizer: this.checkpoint.tokenizer,
        hook: this.held(hookId).hook,
        parameters: this.parameters,
        front: frontTokens(this.checkpoint.tokenizer),
        contexts: this.statistics.contexts,
        progress: async (state) => {
          progress?.(state);
          await breathe();
        },
      });
      const sound = edits
        .map((_, i) => i)
        .filter(
          (i) =>
            found.values.subarray(i * D, (i + 1) * D).every(Number.isFinite) &&
            Number.isFinite(found.losses[i]),
        );
      edits.forEach((edit, i) => {
        if (!sound.includes(i))
          refused.push({
            id: edit.id,
            code: 'not-finite',
            reason: 'the search for its target left the finite numbers',
            measured: { loss: String(found.losses[i]) },
          });
      });
      const values = new Float32Array(sound.length * D);
      sound.forEach((i, row) => values.set(found.values.subarray(i * D, (i + 1) * D), row * D));
      return {
        targets: { ids: sound.map((i) => edits[i]!.id), values },
        accepted: sound.map((i) => ({
          id: edits[i]!.id,
          loss: found.losses[i]!,
          steps: found.steps[i]!,
        })),
        refused,
        seconds: found.seconds,
      };
    });
  }

  deriveUpdate(
    hookId: string | null,
    requests: EditRequest[],
    targets: Targets,
  ): Promise<DerivedUpdate> {
    return this.queue.call(async () => {
      const byId = new Map(requests.map((request) => [request.id, request]));
      const { edits, refused } = this.read(
        targets.ids.map((id) => {
          const request = byId.get(id);
          if (request === undefined)
            throw new Error(`there is a target for ${id}, which was not asked for`);
          return request;
        }),
      );
      const { mlpWidth: F, residualWidth: D } = this.model.config;
      if (edits.length === 0)
        return { ids: [], pairs: emptyPairs(this.parameters.layers, F, D), refused, seconds: {} };
      const rowOf = new Map(targets.ids.map((id, row) => [id, row]));
      const values = new Float32Array(edits.length * D);
      edits.forEach((edit, i) =>
        values.set(
          targets.values.subarray(rowOf.get(edit.id)! * D, (rowOf.get(edit.id)! + 1) * D),
          i * D,
        ),
      );
      const held = this.held(hookId);
      try {
        const { pairs, seconds } = await derivePairs(edits, values, {
          model: this.model,
          priors: this.priors,
          hook: held.hook,
          pairs: held.pairs,
          front: frontTokens(this.checkpoint.tokenizer),
          contexts: this.statistics.contexts,
          gate: this.parameters.gate,
          cache: this.cache,
          between: breathe,
        });
        return { ids: edits.map((edit) => edit.id), pairs, refused, seconds };
      } catch (error) {
        if (!(error instanceof NotPositiveDefinite)) throw error;
        const singular = edits.map(({ id }): Refusal => ({
          id,
          code: 'singular-update',
          reason: error.message,
          measured: error.facts,
        }));
        return {
          ids: [],
          pairs: emptyPairs(this.parameters.layers, F, D),
          refused: [...refused, ...singular],
          seconds: {},
        };
      }
    });
  }

  probe(hookId: string | null, probes: Probe[]): Promise<ProbeAnswer[]> {
    return this.queue.call(() =>
      probeModel(this.model, this.checkpoint.tokenizer, this.held(hookId).hook, probes, breathe),
    );
  }

  canary(hookId: string | null): Promise<CanaryReading> {
    return this.queue.call(async () => {
      const { canary, canaryLoss } = this.statistics;
      const basePerplexity = perplexityOf(canaryLoss, canary);
      const tokens = canary.reduce((sum, sequence) => sum + sequence.length - 1, 0);
      const { hook } = this.held(hookId);
      if (hook === null)
        return { perplexity: basePerplexity, basePerplexity, ratio: 1, tokens, openShare: 0 };
      const touched = hook.mayOpen(canary);
      // A sequence on which no gate opens has the base model's perplexity, bit for bit.
      const losses = [...canaryLoss];
      const opened = new Map<number, number>();
      hook.openObserver = (layer, rows) =>
        opened.set(layer, (opened.get(layer) ?? 0) + rows.reduce((sum, open) => sum + open, 0));
      let again: number[];
      try {
        again = sequenceLosses(
          this.model,
          touched.map((b) => canary[b]!),
          hook,
        );
      } finally {
        hook.openObserver = null;
      }
      touched.forEach((b, i) => (losses[b] = again[i]!));
      const perplexity = perplexityOf(losses, canary);
      return {
        perplexity,
        basePerplexity,
        ratio: perplexity / basePerplexity,
        tokens,
        openShare: Math.max(0, ...opened.values()) / tokens,
      };
    });
  }

  generate(
    hookId: string | null,
    prompt: string,
    options: GenerateOptions,
    onToken?: (token: GeneratedToken) => void,
  ): Promise<Generation> {
    return this.queue.call(async () => {
      const { tokenizer } = this.checkpoint;
      const tokens = promptTokens(tokenizer, prompt);
      if (tokens.length === 0) throw new RangeError('the prompt has no tokens');
      const room = this.model.config.contextMax - tokens.length;
      if (room < 1)
        throw new RangeError(
          `the prompt has ${tokens.length} tokens; the model's context is ${this.model.config.contextMax}`,
        );
      const { hook, pairs } = this.held(hookId);
      const viewsPerCorrection = pairs === null ? 1 : pairs.keyWidth / this.model.config.mlpWidth;
      const opened: Generation['opened'] = [];
      const shut: Generation['opened'] = [];
      let position = 0;
      const read = [...tokens];
      if (hook !== null) {
        hook.openObserver = (layer, rows, scores, nearestOf) => {
          const open = Array.from(rows.keys()).filter((row) => rows[row] === 1);
          const nearest = nearestOf();
          open.forEach((row, i) => {
            const at = position + row;
            opened.push({
              position: at,
              token: tokenizer.tokenText(read[at]!),
              layer,
              score: scores[row]!,
              threshold: hook.thresholds.get(layer)!,
              nearestRow: Math.floor(nearest[i]! / viewsPerCorrection),
            });
          });
        };
        if (options.explain === true) {
          hook.shutObserver = (layer, rows) => {
            for (const { row, score, nearest } of rows.slice(0, SHUT_GATES_MAX - shut.length)) {
              const at = position + row;
              shut.push({
                position: at,
                token: tokenizer.tokenText(read[at]!),
                layer,
                score,
                threshold: hook.thresholds.get(layer)!,
                nearestRow: Math.floor(nearest / viewsPerCorrection),
              });
            }
          };
        }
      }
      const ends = new Set(tokenizer.endTokens);
      if (
        options.besideBase === true &&
        (options.temperature !== 0 || (options.stop ?? []).length > 0)
      )
        throw new RangeError(
          'the base answers beside a hook by greedy decoding without stops only',
        );
      const beside =
        options.besideBase === true && hook !== null ? new FirstSequenceHook(hook) : null;
      let text = '';
      let finish = 'length' as Generation['finish'];
      try {
        const start = prefill(
          this.model,
          beside === null ? [tokens] : [tokens, tokens],
          beside ?? hook,
        );
        position = tokens.length;
        const [answer, baseAnswer] = await decodeFrom(this.model, start, {
          tokensMax: Math.min(options.tokensMax, room),
          temperature: options.temperature,
          topP: options.topP ?? 1,
          random: seededRandom(options.seed ?? Math.floor(Math.random() * 2 ** 32)),
          hook: beside ?? hook,
          stop: (sequence, soFar) => {
            const last = soFar.at(-1)!;
            if (sequence > 0) return ends.has(last);
            position = tokens.length + soFar.length - 1;
            read.push(last);
            if (ends.has(last)) {
              finish = 'end';
              if (beside !== null) beside.ended = true;
              return true;
            }
            const whole = tokenizer.decode([...soFar]);
            const cut = firstStop(whole, options.stop ?? []);
            const shown = cut < 0 ? whole : whole.slice(0, cut);
            // A character whose bytes are not all there yet is shown when it is whole.
            if (cut >= 0 || !shown.endsWith('\uFFFD')) {
              onToken?.({ id: last, text: shown.slice(text.length) });
              text = shown;
            }
            if (cut >= 0) finish = 'stop';
            return cut >= 0;
          },
          between: breathe,
        });
        const spoken = answer!.filter((token) => !ends.has(token));
        if (finish !== 'stop') text = tokenizer.decode(spoken);
        const base =
          options.besideBase === true
            ? {
                base:
                  baseAnswer === undefined ? { text, finish } : saidBy(tokenizer, baseAnswer, ends),
              }
            : {};
        return {
          text,
          tokens: spoken,
          promptTokens: tokens.length,
          finish,
          opened,
          ...base,
          ...(options.explain === true ? { shut } : {}),
        };
      } finally {
        if (hook !== null) hook.openObserver = hook.shutObserver = null;
      }
    });
  }

  async close(): Promise<void> {
    await this.queue.drained();
    this.hooks.clear();
    this.cache.dispose();
    disposePriors(this.priors);
    disposeStatistics(this.statistics);
    this.model.dispose();
    await this.checkpoint.close();
  }

  /**
   * The other facts of the requests' subjects, each once; what cannot be read is left out, as it
   * cannot be kept.
   */
  private alongside(requests: readonly EditRequest[]): EditSequence[] {
    const facts = requests.flatMap(({ subject, alongside = [] }) =>
      alongside.map(({ prompt, target }) => ({
        id: JSON.stringify([subject, prompt]),
        subject,
        prompt,
        target,
      })),
    );
    return this.read([...new Map(facts.map((fact) => [fact.id, fact])).values()]).edits;
  }

  private read(requests: readonly EditRequest[]): { edits: EditSequence[]; refused: Refusal[] } {
    const { contextMax } = this.model.config;
    const inFront =
      frontTokens(this.checkpoint.tokenizer).length +
      this.statistics.contexts.reduce((most, context) => Math.max(most, context.length), 0);
    const limits = {
      targetTokensMax: this.parameters.targetTokensMax,
      promptTokensMax: Math.floor(contextMax / 2),
      togetherTokensMax: contextMax - inFront,
    };
    const read = requests.map((request) => readEdit(this.checkpoint.tokenizer, request, limits));
    return {
      edits: read.filter((one): one is EditSequence => !isRefusal(one)),
      refused: read.filter(isRefusal),
    };
  }

  private held(hookId: string | null): { hook: Hook | null; pairs: PairSet | null } {
    if (hookId === null) return { hook: null, pairs: null };
    const held = this.hooks.get(hookId);
    if (held === undefined) throw new HookNotHeld(hookId);
    return held;
  }
}

function emptyReport(parameters: HyperParameters): HookReport {
  return {
    corrections: 0,
    layers: parameters.layers.map((layer) => ({
      layer,
      editNorm: 0,
      threshold: parameters.gate.floor,
    })),
  };
}

function emptyPairs(layers: number[], keyWidth: number, valueWidth: number): PairSet {
  return {
    layers,
    count: 0,
    subjects: [],
    spellings: [],
    keyWidth,
    valueWidth,
    keys: layers.map(() => new Float32Array(0)),
    changes: layers.map(() => new Float32Array(0)),
  };
}

function firstStop(text: string, stops: readonly string[]): number {
  const found = stops
    .filter((stop) => stop !== '')
    .map((stop) => text.indexOf(stop))
    .filter((at) => at >= 0);
  return found.length === 0 ? -1 : Math.min(...found);
}

function breathe(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

const SOFTWARE_VERSION = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  }
).version;

/** What a sequence that was decoded without stops came to. */
function saidBy(
  tokenizer: Pick<Tokenizer, 'decode'>,
  answer: readonly number[],
  ends: ReadonlySet<number>,
): NonNullable<Generation['base']> {
  return {
    text: tokenizer.decode(answer.filter((token) => !ends.has(token))),
    finish: ends.has(answer.at(-1)!) ? 'end' : 'length',
  };
}
