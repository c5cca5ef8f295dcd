/**
 * Why a version answers a prompt as it does: both answers, the gates that opened on the way and how
 * far over their thresholds they were, and all that is stored of each correction behind them. Where
 * no gate opened the answer is the base model's own; then it is told what was ever said about this
 * prompt, and how near a gate came.
 */
import type { Generation } from '../../model/engine-types.ts';
import { normalisedText } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/editing.ts';
import type { ActiveCorrection } from '../../versions/log/history.ts';
import { traces, TRACES_MAX, type Trace } from '../../versions/audit/trace.ts';
import { refusedAbout } from '../../versions/audit/refused.ts';
import type { Answers, Asked, OpenedGate, Unanswered } from './answers.ts';
import { standsIn } from './subjects-in-text.ts';

export interface Explanation {
  kind: 'explanation';
  lineage: string;
  version: number;
  prompt: string;
  base: { text: string; finish: Generation['finish'] };
  edited: { text: string; finish: Generation['finish'] };
  /** Whether no gate opened: then the answer is the base model's, bit for bit. */
  untouched: boolean;
  /** In the order of the text, per layer; `margin` is the score less the threshold. */
  gates: (OpenedGate & { margin: number })[];
  /**
   * Tokens that end a corrected subject's name and whose gate stayed shut; null where this gate or
   * engine cannot tell.
   */
  shut: (OpenedGate & { margin: number })[] | null;
  /** Those behind the gates that opened. */
  corrections: Trace[];
  /**
   * Corrected subjects of this version whose name stands in the prompt, and their corrections; at
   * most `NAMED_MAX`.
   */
  named: {
    subject: string;
    corrections: { id: string; prompt: string; target: string; version: number }[];
  }[];
  /**
   * Where no gate opened: corrections that had this very prompt or paraphrase, whether they hold or
   * left.
   */
  earlier: Trace[];
  /** Where no gate opened: what was refused of this prompt or of the subjects named. */
  refused: { outcomes: Outcome[]; complete: boolean } | null;
}

/** Subjects that an explanation names, and corrections of each. */
const NAMED_MAX = 20;

export async function explain(
  answers: Answers,
  asked: Pick<Asked, 'lineage' | 'version' | 'prompt' | 'signal'> & { tokensMax: number },
): Promise<Explanation | Unanswered> {
  const { lineage, prompt, tokensMax } = asked;
  const question = {
    ...asked,
    options: { tokensMax, temperature: 0, explain: true, besideBase: true },
  };
  const edited = await answers.answer(question);
  if (edited.kind !== 'answer') return edited;
  const untouched = edited.opened.length === 0;
  const base = untouched ? edited.generation : edited.generation.base!;
  const found = await answers.historyOf(lineage, edited.version);
  if (found.kind !== 'history') return found;
  const { log } = found.followed;
  const hands = [
    ...new Set(
      edited.opened.flatMap(({ correction }) => (correction === null ? [] : [correction.id])),
    ),
  ].slice(0, TRACES_MAX);
  const named = namedIn(prompt, found.history.active.values());
  return {
    kind: 'explanation',
    lineage,
    version: edited.version,
    prompt,
    base: { text: base.text, finish: base.finish },
    edited: { text: edited.generation.text, finish: edited.generation.finish },
    untouched,
    gates: edited.opened.map(withMargin),
    shut: edited.shut?.map(withMargin) ?? null,
    corrections: hands.length === 0 ? [] : await traces(log, { ids: hands }),
    named,
    earlier: untouched ? await traces(log, { prompts: [prompt] }) : [],
    refused: untouched
      ? await refusedAbout(log, { prompt, subjects: named.map(({ subject }) => subject) })
      : null,
  };
}

function withMargin(gate: OpenedGate): OpenedGate & { margin: number } {
  return { ...gate, margin: gate.score - gate.threshold };
}

function namedIn(prompt: string, active: Iterable<ActiveCorrection>): Explanation['named'] {
  const named = new Map<string, Explanation['named'][number]>();
  for (const { subject, correctionId: id, prompt: own, target, version } of active) {
    const key = normalisedText(subject);
    let of = named.get(key);
    if (of === undefined) {
      if (named.size === NAMED_MAX || !standsIn(subject, prompt)) continue;
      named.set(key, (of = { subject, corrections: [] }));
    }
    if (of.corrections.length < NAMED_MAX)
      of.corrections.push({ id, prompt: own, target, version });
  }
  return [...named.values()];
}
