/**
 * Probes the model and remembers the answers: a hook's name always means the same hook. The answers
 * before a batch are those after the previous one, so the halves of a batch need no new answers of
 * HEAD.
 */
import { LRUCache } from 'lru-cache';
import type { CanaryReading, Probe, ProbeAnswer } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { Heartbeat } from '../heartbeat.ts';

/** Number of remembered answers of a few hundred bytes each. */
const ANSWERS_MAX = 20_000;
const CANARY_READINGS_MAX = 64;

/** Number of probes in one call of the engine. The step can be cancelled between calls. */
const PROBES_PER_CALL_MAX = 64;

export class ProbeCache {
  readonly #answers = new LRUCache<string, ProbeAnswer>({ max: ANSWERS_MAX });
  readonly #canaries = new LRUCache<string, CanaryReading>({ max: CANARY_READINGS_MAX });

  constructor(private readonly engine: Engine) {}

  /** Answers each probe, in order. `ensure` makes the engine hold the hook when it is needed. */
  async probe(
    hookId: string | null,
    probes: readonly Probe[],
    heartbeat: Heartbeat,
    ensure: () => Promise<unknown>,
  ): Promise<ProbeAnswer[]> {
    const keys = probes.map((probe) => keyOf(hookId, probe));
    const found = new Map<string, ProbeAnswer>();
    const missing = new Map<string, Probe>();
    probes.forEach((probe, i) => {
      const known = this.#answers.get(keys[i]!);
      if (known === undefined) missing.set(keys[i]!, probe);
      else found.set(keys[i]!, known);
    });
    // Groups the longest continuations, because every call that decodes pays for its longest one.
    const list = [...missing].sort(([, a], [, b]) => b.greedyTokensMax - a.greedyTokensMax);
    if (list.length > 0) await heartbeat.during({ stage: 'hook' }, ensure);
    for (let from = 0; from < list.length; from += PROBES_PER_CALL_MAX) {
      const part = list.slice(from, from + PROBES_PER_CALL_MAX);
      const asked = part.map(([, probe]) => probe);
      const details = { stage: 'probes', asked: from, of: list.length };
      const answers = await heartbeat.during(details, () => this.engine.probe(hookId, asked));
      if (answers.length !== part.length)
        throw new RangeError(`${answers.length} answers to ${part.length} probes`);
      part.forEach(([key, probe], i) => {
        found.set(key, answers[i]!);
        this.#answers.set(key, answers[i]);
        if (isBaseAnswer(probe, answers[i]!)) this.#answers.set(keyOf(null, probe), answers[i]);
      });
    }
    return keys.map((key) => found.get(key)!);
  }

  /** Returns the canary's perplexity divided by the base model's; 1 for the base model itself. */
  async canaryRatio(
    hookId: string | null,
    heartbeat: Heartbeat,
    ensure: () => Promise<unknown>,
  ): Promise<number> {
    if (hookId === null) return 1;
    let reading = this.#canaries.get(hookId);
    if (reading === undefined) {
      reading = await heartbeat.during({ stage: 'canary' }, async () => {
        await ensure();
        return this.engine.canary(hookId);
      });
      this.#canaries.set(hookId, reading);
    }
    // A model that no longer gives numbers gets the worst ratio that can be written.
    return Number.isFinite(reading.ratio) ? reading.ratio : Number.MAX_VALUE;
  }
}

function keyOf(hookId: string | null, probe: Probe): string {
  const { prompt, target, alternative, greedyTokensMax } = probe;
  return JSON.stringify([hookId, prompt, target ?? null, alternative ?? null, greedyTokensMax]);
}

/**
 * With every gate shut on the prompt, the next token is the base model's, bit for bit. Text that is
 * scored or decoded later may open a gate, so a longer probe says nothing about the base model.
 */
function isBaseAnswer(probe: Probe, answer: ProbeAnswer): boolean {
  return (
    !answer.opened &&
    probe.greedyTokensMax <= 1 &&
    probe.target === undefined &&
    probe.alternative === undefined
  );
}
