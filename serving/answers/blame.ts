/**
 * Finds which versions changed the answer to a prompt, starting from the base model. If each
 * subject has its own map, a version can change the answer only by adding or removing a correction
 * of a subject named in the prompt or its answer, so only such versions are asked. With another
 * gate every version is asked.
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
import { Refusal } from '../access/refusals.ts';
import { CLIENT_LEFT, orUnsuitable, type Answers } from './answers.ts';
import { GreedyAnswers } from './greedy-answers.ts';
import { lettersOf } from './subjects-in-text.ts';

export interface Blame {
  lineage: string;
  /** The last version examined. */
  version: number;
  /** True if only the versions that can change an answer were asked. */
  bySubject: boolean;
  prompts: BlamedPrompt[];
}

export interface BlamedPrompt {
  prompt: string;
  /** The base model's answer, then each new one with the version that made it. */
  answers: { version: number; text: string; made: VersionMark | null; because: BlamedChange[] }[];
  /** Number of versions asked. */
  asked: number;
}

/**
 * A correction added or removed by a version; if only named subjects count, one about a named
 * subject.
 */
interface BlamedChange {
  correctionId: string;
  subject: string;
  target: string;
  change: 'added' | 'superseded' | 'retracted' | 'reverted' | 'contradicted' | 'restored';
  /** The revision or undo that made the change. */
  by: string;
}

interface BlameDependencies {
  engine: Engine;
  answers: Pick<Answers, 'ask'>;
  log: VersionLog;
  served: History | null;
}

/** Asks one version after another; stops once `signal` says that the client left. */
export async function blame(
  { engine, answers, log, served }: BlameDependencies,
  question: { prompts: readonly string[]; version: number; tokensMax: number; signal: AbortSignal },
): Promise<Blame | Refusal> {
  const { prompts, signal } = question;
  const greedy = await GreedyAnswers.of({ engine, log, served }, question.tokensMax);
  let history = emptyHistory(log.lineage);
  const base = await answers.ask(() => askAll(greedy, history, prompts), signal);
  if (base instanceof Refusal) return base;
  const blamed = prompts.map((prompt, i): BlamedPrompt => ({
    prompt,
    answers: [{ version: 0, text: base[i]!, made: null, because: [] }],
    asked: 1,
  }));
  for await (const stored of log.walk()) {
    if (stored.entry.version > question.version) break;
    const changes = changesIn(history, stored);
    history = extended(history, [stored]);
    const concerned = blamed.filter(
      (one) => concerning(greedy, changes, one.prompt, [one.answers.at(-1)!.text]).length > 0,
    );
    if (concerned.length === 0) continue;
    if (signal.aborted) return CLIENT_LEFT;
    const at = history;
    const asked = concerned.map(({ prompt }) => prompt);
    const texts = await engine.queue.run(() => askAll(greedy, at, asked));
    if (texts instanceof Refusal) return texts;
    concerned.forEach((one, i) => {
      const before = one.answers.at(-1)!.text;
      const text = texts[i]!;
      one.asked += 1;
      if (text === before) return;
      const because = concerning(greedy, changes, one.prompt, [before, text]);
      const { version } = stored.entry;
      one.answers.push({ version, text, made: markOf(stored), because });
    });
  }
  const { lineage, head } = history;
  return { lineage, version: head.version, bySubject: greedy.bySubject, prompts: blamed };
}

/** Asks a version all prompts in one turn of the model. */
export async function askAll(
  greedy: GreedyAnswers,
  history: History,
  prompts: readonly string[],
): Promise<string[] | Refusal> {
  return await orUnsuitable(() => greedy.at(history, prompts));
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
  const undo = entry.undo === undefined ? null : `undo:${entry.undo.id}`;
  return [
    ...entry.removed.map(({ correctionId, because: change, by }): BlamedChange => {
      const { subject, target } = before.active.get(correctionId)!;
      return { correctionId, subject, target, change, by };
    }),
    ...entry.added.map(({ correctionId, subject, target }): BlamedChange => ({
      correctionId,
      subject,
      target,
      change: undo === null ? 'added' : 'restored',
      by: undo ?? correctionId,
    })),
  ];
}
