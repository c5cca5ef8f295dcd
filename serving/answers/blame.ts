/**
 * Which version changed the answer to a prompt, from the base model on. Where every subject has a
 * map of its own behind a gate that asks for its name, only a version that adds or takes out a
 * correction of a subject named in the prompt, or in what is answered so far, can change the
 * answer; only those are asked. By other gates every version is asked.
 */
import type { Engine } from '../../model/engine/engine.ts';
import {
  emptyHistory,
  extended,
  type History,
  type StoredEntry,
} from '../../versions/log/history.ts';
import { markOf, type VersionMark } from '../../versions/audit/version-mark.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { Answers, Unanswered } from './answers.ts';
import { GreedyAnswers } from './greedy-answers.ts';
import { lettersOf } from './subjects-in-text.ts';

export interface Blame {
  kind: 'blame';
  lineage: string;
  /** Up to which version. */
  version: number;
  /** Whether only the versions were asked that can have changed an answer. */
  bySubject: boolean;
  prompts: BlamedPrompt[];
}

export interface BlamedPrompt {
  prompt: string;
  /** The base model's answer, then every other one with the version that brought it. */
  answers: { version: number; text: string; made: VersionMark | null; because: BlamedChange[] }[];
  /** Versions that were asked. */
  asked: number;
}

/**
 * A correction that came or went in the version, about a subject that the text names; by gates that
 * do not ask for names every one.
 */
export interface BlamedChange {
  correctionId: string;
  subject: string;
  target: string;
  change: 'added' | 'superseded' | 'retracted' | 'reverted' | 'contradicted' | 'restored';
  /** The revision or undo that asked for it. */
  by: string;
}

export interface BlameDependencies {
  engine: Engine;
  answers: Pick<Answers, 'ask'>;
  log: VersionLog;
  served: History | null;
}

/** 'gone' where the client leaves, which `signal` says, between two versions. */
export async function blame(
  { engine, answers, log, served }: BlameDependencies,
  asked: { prompts: readonly string[]; version: number; tokensMax: number; signal: AbortSignal },
): Promise<Blame | Unanswered> {
  const greedy = await GreedyAnswers.of(engine, log, asked.tokensMax, served);
  let history = emptyHistory(log.lineage);
  const began = await answers.ask(() => askAll(greedy, history, asked.prompts), asked.signal);
  if (began.kind !== 'done') return began;
  if (!Array.isArray(began.result)) return began.result;
  const blamed = asked.prompts.map((prompt, i): BlamedPrompt => ({
    prompt,
    answers: [{ version: 0, text: (began.result as string[])[i]!, made: null, because: [] }],
    asked: 1,
  }));
  for await (const stored of log.walk()) {
    if (stored.entry.version > asked.version) break;
    const changes = changesIn(history, stored);
    history = extended(history, [stored]);
    const concerned = blamed.filter(
      ({ prompt, answers }) =>
        concerning(greedy, changes, prompt, [answers.at(-1)!.text]).length > 0,
    );
    if (concerned.length === 0) continue;
    if (asked.signal.aborted) return { kind: 'gone' };
    const now = history;
    const texts = await engine.queue.run(() =>
      askAll(
        greedy,
        now,
        concerned.map(({ prompt }) => prompt),
      ),
    );
    if (!Array.isArray(texts)) return texts;
    concerned.forEach((one, i) => {
      const before = one.answers.at(-1)!.text;
      const text = texts[i]!;
      one.asked += 1;
      if (text !== before)
        one.answers.push({
          version: stored.entry.version,
          text,
          made: markOf(stored),
          because: concerning(greedy, changes, one.prompt, [before, text]),
        });
    });
  }
  return {
    kind: 'blame',
    lineage: log.lineage,
    version: history.head.version,
    bySubject: greedy.bySubject,
    prompts: blamed,
  };
}

/** The answers, or why the model cannot read one of the prompts. */
export async function askAll(
  greedy: GreedyAnswers,
  history: History,
  prompts: readonly string[],
): Promise<string[] | Extract<Unanswered, { kind: 'unsuitable-prompt' }>> {
  try {
    return await greedy.at(history, prompts);
  } catch (fault) {
    // By name, for it may come from the engine's thread.
    if (fault instanceof Error && fault.name === 'RangeError')
      return { kind: 'unsuitable-prompt', reason: fault.message };
    throw fault;
  }
}

function concerning(
  greedy: GreedyAnswers,
  changes: readonly BlamedChange[],
  prompt: string,
  answers: readonly string[],
): BlamedChange[] {
  if (!greedy.bySubject) return [...changes];
  const letters = answers.map((answer) => lettersOf(prompt + answer));
  return changes.filter(({ subject }) => letters.some((text) => greedy.mayBeNamed(subject, text)));
}

function changesIn(before: History, { entry }: StoredEntry): BlamedChange[] {
  const by = entry.undo === undefined ? null : `undo:${entry.undo.id}`;
  return [
    ...entry.removed.map(({ correctionId, because, by: asked }): BlamedChange => {
      const { subject, target } = before.active.get(correctionId)!;
      return { correctionId, subject, target, change: because, by: asked };
    }),
    ...entry.added.map(({ correctionId, subject, target }): BlamedChange => ({
      correctionId,
      subject,
      target,
      change: by === null ? 'added' : 'restored',
      by: by ?? correctionId,
    })),
  ];
}
