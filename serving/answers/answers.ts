/**
 * Answers of a version of a lineage, with the gates that opened on the way and the corrections
 * behind them.
 */
import type { GeneratedToken, GenerateOptions, Generation } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { Answered } from '../../model/engine/model-queue.ts';
import { STABLE_ALIAS } from '../../schemas/alias.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import { VersionUnknown } from '../../versions/log/failures.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import type { FollowedLineage, FollowedLineages } from './followed-lineages.ts';

/**
 * A version by its number or by name: `base` is the model as it was, `served` what answers where
 * nobody names a version, `head` the newest; they differ where the alias `stable` holds an older
 * one.
 */
export type VersionName = number | 'base' | 'served' | 'head' | { alias: string };

/** What can be asked for and is not there, or not now. */
export type Unanswered =
  | { kind: 'unknown-lineage'; lineage: string }
  | { kind: 'unknown-version'; lineage: string; version: number; head: number }
  | { kind: 'unknown-alias'; lineage: string; alias: string; aliases: string[] }
  | { kind: 'not-ready'; lineage: string; reason: string }
  | { kind: 'unsuitable-prompt'; reason: string }
  | { kind: 'full'; waiting: number }
  | { kind: 'gone' };

export interface Answer {
  kind: 'answer';
  lineage: string;
  version: number;
  generation: Generation;
  opened: OpenedGate[];
  /** Where an explanation was asked for and the engine can tell: gates that stayed shut. */
  shut?: OpenedGate[];
}

/** A gate that opened at a token, and the correction whose key lies nearest. */
export interface OpenedGate {
  position: number;
  token: string;
  layer: number;
  score: number;
  threshold: number;
  correction: OpenedCorrection | null;
}

export interface OpenedCorrection {
  id: string;
  subject: string;
  prompt: string;
  target: string;
  source: string;
  /** The version that committed it. */
  version: number;
}

export interface Asked {
  lineage: string;
  version: VersionName;
  prompt: string;
  options: GenerateOptions;
  onToken?: (token: GeneratedToken) => void;
  /** Called with the version that answers when its turn has come. */
  onBegin?: (version: number) => void;
  /** Aborted when the client leaves. */
  signal: AbortSignal;
}

export class Answers {
  readonly #engine: Engine;
  readonly #followed: FollowedLineages;
  readonly #waitingMax: number;

  constructor(engine: Engine, followed: FollowedLineages, waitingMax: number) {
    this.#engine = engine;
    this.#followed = followed;
    this.#waitingMax = waitingMax;
  }

  async answer(asked: Asked): Promise<Answer | Unanswered> {
    const found = await this.historyOf(asked.lineage, asked.version);
    if (found.kind !== 'history') return found;
    const turn = await this.ask(() => this.#answerNow(asked), asked.signal);
    return turn.kind === 'done' ? turn.result : turn;
  }

  /** Runs a client's work when its turn comes. */
  ask<Result>(work: () => Promise<Result>, signal: AbortSignal): Promise<Answered<Result>> {
    return this.#engine.queue.ask(work, { waitingMax: this.#waitingMax, signal });
  }

  async #answerNow(asked: Asked): Promise<Answer | Unanswered> {
    // Chosen only now: the version that is served may have changed while the request waited.
    const found = await this.historyOf(asked.lineage, asked.version);
    if (found.kind !== 'history') return found;
    const { history, followed } = found;
    const rows = [...history.active.values()];
    const hookId = await ensureHook(this.#engine, followed.log, rows);
    asked.onBegin?.(history.head.version);
    const generation = await this.#generate(hookId, asked);
    if ('kind' in generation) return generation;
    return {
      kind: 'answer',
      lineage: asked.lineage,
      version: history.head.version,
      generation,
      opened: generation.opened.map((gate) => openedGate(gate, rows)),
      ...(generation.shut === undefined
        ? {}
        : { shut: generation.shut.map((gate) => openedGate(gate, rows)) }),
    };
  }

  async #generate(
    hookId: string | null,
    { prompt, options, onToken }: Asked,
  ): Promise<Generation | Extract<Unanswered, { kind: 'unsuitable-prompt' }>> {
    try {
      return await this.#engine.generate(hookId, prompt, options, onToken);
    } catch (fault) {
      // How the engine refuses a prompt that does not fit the model's context; by name, for it may
      // come from its thread.
      if (fault instanceof Error && fault.name === 'RangeError')
        return { kind: 'unsuitable-prompt', reason: fault.message };
      throw fault;
    }
  }

  /** The history of a version by name. */
  async historyOf(
    lineage: string,
    version: VersionName,
  ): Promise<{ kind: 'history'; history: History; followed: FollowedLineage } | Unanswered> {
    const followed = this.#followed.get(lineage);
    if (followed === undefined) return { kind: 'unknown-lineage', lineage };
    const { served, head, aliases } = followed;
    if (served === null || head === null)
      return {
        kind: 'not-ready',
        lineage,
        reason: followed.fault ?? 'its version log is being read',
      };
    const word = typeof version === 'object' ? aliases.get(version.alias) : undefined;
    if (typeof version === 'object' && word === undefined && version.alias !== STABLE_ALIAS)
      return {
        kind: 'unknown-alias',
        lineage,
        alias: version.alias,
        aliases: [...new Set([STABLE_ALIAS, ...aliases.keys()])],
      };
    const named =
      typeof version !== 'object'
        ? version
        : version.alias === STABLE_ALIAS
          ? 'served'
          : (word?.version ?? 'head');
    if (named === 'served' || named === served.head.version)
      return { kind: 'history', history: served, followed };
    if (named === 'head' || named === head.head.version)
      return { kind: 'history', history: head, followed };
    try {
      return {
        kind: 'history',
        history: await followed.log.at(named === 'base' ? 0 : named),
        followed,
      };
    } catch (fault) {
      if (fault instanceof VersionUnknown)
        return { kind: 'unknown-version', lineage, version: fault.version, head: fault.head };
      throw fault;
    }
  }
}

function openedGate(
  { nearestRow, ...gate }: Generation['opened'][number],
  rows: readonly ActiveCorrection[],
): OpenedGate {
  const nearest = rows[nearestRow];
  if (nearest === undefined) return { ...gate, correction: null };
  const { correctionId: id, subject, prompt, target, source, version } = nearest;
  return { ...gate, correction: { id, subject, prompt, target, source, version } };
}
