/** Answers of a version, with the gates that opened and the corrections behind them. */
import type { GeneratedToken, GenerateOptions, Generation } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import { STABLE_ALIAS } from '../../schemas/alias.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import { VersionUnknown } from '../../versions/log/failures.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import { Refusal } from '../access/refusals.ts';
import type { FollowedLineage, FollowedLineages } from './followed-lineages.ts';

/**
 * A version by number or name. `base` is the base model, `head` the newest version, `served` the
 * one that answers by default. `served` differs from `head` if the alias `stable` holds an older
 * version.
 */
export type VersionName = number | 'base' | 'served' | 'head' | { alias: string };

export interface Answer {
  lineage: string;
  version: number;
  generation: Generation;
  opened: OpenedGate[];
  /** Gates that stayed shut, if `options.explain` was set. */
  shut?: OpenedGate[];
}

/** A gate at a token, and the correction with the nearest key. */
export type OpenedGate = ReturnType<typeof openedGate>;

export interface Question {
  lineage: string;
  version: VersionName;
  prompt: string;
  options: GenerateOptions;
  onToken?: (token: GeneratedToken) => void;
  /** Called with the answering version, before its first token. */
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

  async answer(question: Question): Promise<Answer | Refusal> {
    const found = await this.historyOf(question.lineage, question.version);
    if (found instanceof Refusal) return found;
    return await this.ask(() => this.#answerNow(question), question.signal);
  }

  /** Runs a client's work when its turn comes. */
  async ask<Result>(
    work: () => Promise<Result | Refusal>,
    signal: AbortSignal,
  ): Promise<Result | Refusal> {
    const turn = await this.#engine.queue.ask(work, { waitingMax: this.#waitingMax, signal });
    if (turn.kind === 'done') return turn.result;
    return turn.kind === 'gone' ? CLIENT_LEFT : tooManyWaiting(turn.waiting);
  }

  async #answerNow(question: Question): Promise<Answer | Refusal> {
    const { lineage, prompt, options, onToken } = question;
    // Resolved now, since the served version may have changed while the request waited.
    const found = await this.historyOf(lineage, question.version);
    if (found instanceof Refusal) return found;
    const { version } = found.history.head;
    const rows = [...found.history.active.values()];
    const hookId = await ensureHook(this.#engine, found.followed.log, rows);
    question.onBegin?.(version);
    return await orUnsuitable(async () => {
      const generation = await this.#engine.generate(hookId, prompt, options, onToken);
      const opened = generation.opened.map((gate) => openedGate(gate, rows));
      const shut = generation.shut?.map((gate) => openedGate(gate, rows));
      return { lineage, version, generation, opened, ...(shut && { shut }) };
    });
  }

  async historyOf(
    lineage: string,
    version: VersionName,
  ): Promise<{ history: History; followed: FollowedLineage } | Refusal> {
    const followed = this.#followed.get(lineage);
    if (followed === undefined) return unknownLineage(lineage);
    const { served, head, fault } = followed;
    if (served === null || head === null) {
      const reason = fault ?? 'its version log is being read';
      return new Refusal('not_ready', `Lineage "${lineage}" cannot answer yet: ${reason}.`);
    }
    const named = typeof version === 'object' ? versionOfAlias(followed, version.alias) : version;
    if (named instanceof Refusal) return named;
    if (named === 'served' || named === served.head.version) return { history: served, followed };
    if (named === 'head' || named === head.head.version) return { history: head, followed };
    try {
      return { history: await followed.log.at(named === 'base' ? 0 : named), followed };
    } catch (fault) {
      if (!(fault instanceof VersionUnknown)) throw fault;
      const unknown = `no version ${fault.version}; its newest is ${fault.head}`;
      return new Refusal('unknown_version', `Lineage "${lineage}" has ${unknown}.`, 'model');
    }
  }
}

function versionOfAlias({ lineage, aliases }: FollowedLineage, alias: string) {
  if (alias === STABLE_ALIAS) return 'served';
  const record = aliases.get(alias);
  if (record !== undefined) return record.version ?? 'head';
  const known = [...new Set([STABLE_ALIAS, ...aliases.keys()])].join(', ');
  const message = `Lineage "${lineage}" has no alias "${alias}"; it has ${known}.`;
  return new Refusal('unknown_alias', message, 'model');
}

export const CLIENT_LEFT = new Refusal('client_left', 'The client closed the connection.');

export function tooManyWaiting(waiting: number): Refusal {
  const message = `${waiting} requests wait already; try again in a moment.`;
  return new Refusal('too_many_waiting', message);
}

export function unknownLineage(lineage: string): Refusal {
  const message = `There is no lineage "${lineage}"; GET /v1/models lists them.`;
  return new Refusal('unknown_lineage', message, 'model');
}

/** Runs the engine's work; an unreadable prompt is refused. */
export async function orUnsuitable<Result>(work: () => Promise<Result>): Promise<Result | Refusal> {
  try {
    return await work();
  } catch (fault) {
    // Compared by name, since it may come from the engine's thread.
    if (!(fault instanceof Error && fault.name === 'RangeError')) throw fault;
    const message = `The model cannot read this prompt: ${fault.message}.`;
    return new Refusal('unsuitable_prompt', message, 'prompt');
  }
}

function openedGate(
  { nearestRow, ...gate }: Generation['opened'][number],
  rows: readonly ActiveCorrection[],
) {
  const nearest = rows[nearestRow];
  if (nearest === undefined) return { ...gate, correction: null };
  const { correctionId: id, subject, prompt, target, source, version } = nearest;
  return { ...gate, correction: { id, subject, prompt, target, source, version } };
}
