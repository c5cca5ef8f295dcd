/** The engine in the current thread. */
import { LRUCache } from 'lru-cache';
import type { GateParameters, HyperParameters } from '../../schemas/hyper-parameters.ts';
import { probeModel } from '../editing/probe.ts';
import type { EngineDescription, HookReport, PairSet } from '../engine-types.ts';
import { HookCache } from '../hook/hook-cache.ts';
import { Hook } from '../hook/hook.ts';
import { sharingRows } from '../hook/pair-rows.ts';
import { readCanary } from './canary.ts';
import { breathe, computeTargets, deriveUpdate, type HeldHook } from './edit.ts';
import { HOOKS_HELD_MAX, type Engine } from './engine.ts';
import { generate } from './generate.ts';
import {
  closeModel,
  describeModel,
  loadModel,
  type EngineOptions,
  type LoadedModel,
  type LoadProgress,
} from './loaded-model.ts';
import { ModelQueue } from './model-queue.ts';

/** Thrown if the engine does not hold the named hook. */
export class HookNotHeld extends Error {
  override readonly name = 'HookNotHeld';
  constructor(readonly hookId: string) {
    super(`the engine holds no hook ${hookId}; hold it first`);
  }
}

export class LocalEngine implements Engine {
  readonly queue = new ModelQueue();
  private readonly hooks = new LRUCache<string, { hook: Hook | null; pairs: PairSet }>({
    max: HOOKS_HELD_MAX,
    dispose: ({ hook }) => hook?.dispose(),
  });
  private readonly cache = new HookCache();

  private constructor(private readonly loaded: LoadedModel) {}

  static async open(options: EngineOptions, progress?: LoadProgress): Promise<LocalEngine> {
    return new LocalEngine(await loadModel(options, progress));
  }

  async describe(): Promise<EngineDescription> {
    return describeModel(this.loaded);
  }

  async holds(hookId: string): Promise<boolean> {
    // `get` instead of `has`: the caller will use the hook, so it must not be the next one evicted.
    return this.hooks.get(hookId) !== undefined;
  }

  /** The same pairs behind a gate other than the engine's own need another name. */
  holdHook(
    hookId: string,
    pairs: PairSet,
    gate: GateParameters = this.loaded.parameters.gate,
  ): Promise<HookReport> {
    return this.queue.call(async () => {
      const { priors, parameters } = this.loaded;
      let held = this.hooks.get(hookId);
      if (held === undefined) {
        const hook = pairs.count === 0 ? null : Hook.build(pairs, priors, gate, this.cache);
        for (const other of this.hooks.values()) other.pairs = sharingRows(other.pairs, pairs);
        this.hooks.set(hookId, (held = { hook, pairs }));
      }
      return held.hook?.report ?? emptyReport(parameters);
    });
  }

  computeTargets: Engine['computeTargets'] = (hookId, requests, progress) =>
    this.queue.call(() => computeTargets(this.loaded, this.held(hookId).hook, requests, progress));

  deriveUpdate: Engine['deriveUpdate'] = (hookId, requests, targets) =>
    this.queue.call(() => {
      const held = { ...this.held(hookId), cache: this.cache };
      return deriveUpdate(this.loaded, held, requests, targets);
    });

  probe: Engine['probe'] = (hookId, probes) =>
    this.queue.call(() => {
      const { model, checkpoint } = this.loaded;
      const { hook } = this.held(hookId);
      const prober = { model, tokenizer: checkpoint.tokenizer, hook, between: breathe };
      return probeModel(prober, probes);
    });

  canary: Engine['canary'] = (hookId) =>
    this.queue.call(async () => readCanary(this.loaded, this.held(hookId).hook));

  generate: Engine['generate'] = (hookId, prompt, options, onToken) =>
    this.queue.call(() => generate(this.loaded, this.held(hookId), { prompt, options, onToken }));

  async close(): Promise<void> {
    await this.queue.drained();
    this.hooks.clear();
    this.cache.dispose();
    await closeModel(this.loaded);
  }

  private held(hookId: string | null): HeldHook {
    if (hookId === null) return { hook: null, pairs: null };
    const held = this.hooks.get(hookId);
    if (held === undefined) throw new HookNotHeld(hookId);
    return held;
  }
}

function emptyReport({ layers, gate }: HyperParameters): HookReport {
  const threshold = gate.floor;
  return { corrections: 0, layers: layers.map((layer) => ({ layer, editNorm: 0, threshold })) };
}
