/** Answers of a version, with the gates that opened and the corrections behind them. */
import type { GeneratedToken, GenerateOptions, Generation } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { Answered } from '../../model/engine/model-queue.ts';
import { STABLE_ALIAS } from '../../schemas/alias.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import { VersionUnknown } from '../../versions/log/failures.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import type { FollowedLineage, FollowedLineages } from './followed-lineages.ts';

/**
 * A version by its number or by name. `base` is the base model, `head` the newest version, `served`
 * the one that answers by default; it is not `head` where the alias `stable` holds an older one.
 */
export type VersionName = number | 'base' | 'served' | 'head' | { alias: string };

/** Why there is no answer. */
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
  /** Gates that stayed shut, where `options.explain` was set. */
  shut?: OpenedGate[];
}

/** A gate at a token, and the correction with the nearest key. */
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

export interface Question {
  lineage: string;
  version: VersionName;
  prompt: string;
  options: GenerateOptions;
  onToken?: (token: GeneratedToken) => void;
  /** Called with the version that answers, before its first token. */
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

  async answer(question: Question): Promise<Answer | Unanswered> {
    const found = await this.historyOf(question.lineage, question.version);
    if (found.kind !== 'history') return found;
    const turn = await this.ask(() => this.#answerNow(question), question.signal);
    return turn.kind === 'done' ? turn.result : turn;
  }

  /** Runs a client's work when its turn comes. */
  ask<Result>(work: () => Promise<Result>, signal: AbortSignal): Promise<Answered<Result>> {
    return this.#engine.queue.ask(work, { waitingMax: this.#waitingMax, signal });
  }

  async #answerNow(question: Question): Promise<Answer | Unanswered> {
    const { lineage } = question;
    // Chosen only now: the version that is served may have changed while the request waited.
    const found = await this.historyOf(lineage, question.version);
    if (found.kind !== 'history') return found;
    const { version } = found.history.head;
    const rows = [...found.history.active.values()];
    const hookId = await ensureHook(this.#engine, found.followed.log, rows);
    question.onBegin?.(version);
    const { prompt, options, onToken } = question;
    return await orUnsuitable(async () => {
      const generation = await this.#engine.generate(hookId, prompt, options, onToken);
      const opened = generation.opened.map((gate) => openedGate(gate, rows));
      const shut = generation.shut?.map((gate) => openedGate(gate, rows));
      return { kind: 'answer', lineage, version, generation, opened, ...(shut && { shut }) };
    });
  }

  /** Finds the history of a version by its number or name. */
  async historyOf(
    lineage: string,
    version: VersionName,
  ): Promise<{ kind: 'history'; history: History; followed: FollowedLineage } | Unanswered> {
    const followed = this.#followed.get(lineage);
    if (followed === undefined) return { kind: 'unknown-lineage', lineage };
    const { served, head, aliases } = followed;
    const { fault } = followed;
    if (served === null || head === null)
      return { kind: 'not-ready', lineage, reason: fault ?? 'its version log is being read' };
    let named: Exclude<VersionName, object>;
    if (typeof version !== 'object') named = version;
    else if (version.alias === STABLE_ALIAS) named = 'served';
    else {
      const record = aliases.get(version.alias);
      const known = [...new Set([STABLE_ALIAS, ...aliases.keys()])];
      if (record === undefined)
        return { kind: 'unknown-alias', lineage, alias: version.alias, aliases: known };
      named = record.version ?? 'head';
    }
    if (named === 'served' || named === served.head.version)
      return { kind: 'history', history: served, followed };
    if (named === 'head' || named === head.head.version)
      return { kind: 'history', history: head, followed };
    try {
      const history = await followed.log.at(named === 'base' ? 0 : named);
      return { kind: 'history', history, followed };
    } catch (fault) {
      if (fault instanceof VersionUnknown)
        return { kind: 'unknown-version', lineage, version: fault.version, head: fault.head };
      throw fault;
    }
  }
}

/** Runs the engine's work; a prompt that it cannot read is an answer. */
export async function orUnsuitable<Result>(
  work: () => Promise<Result>,
): Promise<Result | Extract<Unanswered, { kind: 'unsuitable-prompt' }>> {
  try {
    return await work();
  } catch (fault) {
    // By its name, for it may come from the engine's thread.
    if (fault instanceof Error && fault.name === 'RangeError')
      return { kind: 'unsuitable-prompt', reason: fault.message };
    throw fault;
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
