/**
 * Explains why a version answers a prompt as it does: both answers, the gates that opened and by
 * how much, and what is stored of each correction behind them. Where no gate opened, the answer is
 * the base model's; then it shows what the log has about this prompt, and how near a gate came.
 */
import type { Generation } from '../../model/engine-types.ts';
import { normalisedText } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/editing.ts';
import type { ActiveCorrection } from '../../versions/log/history.ts';
import { refusedAbout } from '../../versions/audit/refused.ts';
import { traces, TRACES_MAX, type Trace } from '../../versions/audit/trace.ts';
import type { Answers, OpenedGate, Question, Unanswered } from './answers.ts';
import { occursIn } from './subjects-in-text.ts';

export interface Explanation {
  kind: 'explanation';
  lineage: string;
  version: number;
  prompt: string;
  base: { text: string; finish: Generation['finish'] };
  edited: { text: string; finish: Generation['finish'] };
  /** Whether no gate opened; the answer is then the base model's, bit for bit. */
  untouched: boolean;
  /** In the order of the text, per layer; `margin` is the score minus the threshold. */
  gates: (OpenedGate & { margin: number })[];
  /** Tokens that end a corrected subject's name and whose gate stayed shut; null if not known. */
  shut: (OpenedGate & { margin: number })[] | null;
  /** Corrections behind the gates that opened. */
  corrections: Trace[];
  /** Corrected subjects that the prompt names, and their corrections; at most `NAMED_MAX`. */
  named: {
    subject: string;
    corrections: { id: string; prompt: string; target: string; version: number }[];
  }[];
  /** Where no gate opened: corrections, active or not, that had this very prompt or paraphrase. */
  earlier: Trace[];
  /** Where no gate opened: refused corrections of this prompt or of the subjects it names. */
  refused: { outcomes: Outcome[]; complete: boolean } | null;
}

/** Subjects that an explanation names, and corrections of each. */
const NAMED_MAX = 20;

export async function explain(
  answers: Answers,
  question: Omit<Question, 'options'> & { tokensMax: number },
): Promise<Explanation | Unanswered> {
  const { lineage, prompt, tokensMax } = question;
  const options = { tokensMax, temperature: 0, explain: true, besideBase: true };
  const edited = await answers.answer({ ...question, options });
  if (edited.kind !== 'answer') return edited;
  const { version, generation, opened, shut } = edited;
  const found = await answers.historyOf(lineage, version);
  if (found.kind !== 'history') return found;
  const { log } = found.followed;
  const untouched = opened.length === 0;
  const base = untouched ? generation : generation.base!;
  const ids = new Set(opened.flatMap(({ correction }) => correction?.id ?? []));
  const named = namedIn(prompt, found.history.active.values());
  const subjects = named.map(({ subject }) => subject);
  return {
    kind: 'explanation',
    lineage,
    version,
    prompt,
    base: { text: base.text, finish: base.finish },
    edited: { text: generation.text, finish: generation.finish },
    untouched,
    gates: opened.map(withMargin),
    shut: shut?.map(withMargin) ?? null,
    corrections: ids.size === 0 ? [] : await traces(log, { ids: [...ids].slice(0, TRACES_MAX) }),
    named,
    earlier: untouched ? await traces(log, { prompts: [prompt] }) : [],
    refused: untouched ? await refusedAbout(log, { prompt, subjects }) : null,
  };
}

function withMargin(gate: OpenedGate): OpenedGate & { margin: number } {
  return { ...gate, margin: gate.score - gate.threshold };
}

function namedIn(prompt: string, active: Iterable<ActiveCorrection>): Explanation['named'] {
  const named = new Map<string, Explanation['named'][number]>();
  for (const { subject, correctionId: id, prompt: own, target, version } of active) {
    const key = normalisedText(subject);
    let entry = named.get(key);
    if (entry === undefined) {
      if (named.size === NAMED_MAX || !occursIn(subject, prompt)) continue;
      named.set(key, (entry = { subject, corrections: [] }));
    }
    if (entry.corrections.length < NAMED_MAX)
      entry.corrections.push({ id, prompt: own, target, version });
  }
  return [...named.values()];
}
