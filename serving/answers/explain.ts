/**
 * Explains a version's answer to a prompt: both answers, the gates that opened and by how much, and
 * everything stored about each correction behind them. If no gate opened, the answer is the base
 * model's. The explanation then shows what the log has about this prompt, and how near a gate came.
 */
import { normalisedText } from '../../schemas/correction.ts';
import type { ActiveCorrection } from '../../versions/log/history.ts';
import { refusedAbout } from '../../versions/audit/refused.ts';
import { traces, TRACES_MAX } from '../../versions/audit/trace.ts';
import { Refusal } from '../access/refusals.ts';
import type { Answers, OpenedGate, Question } from './answers.ts';
import { occursIn } from './subjects-in-text.ts';

export type Explanation = Exclude<Awaited<ReturnType<typeof explain>>, Refusal>;

/** Maximum number of subjects in an explanation, and of corrections of each. */
const NAMED_MAX = 20;

export async function explain(
  answers: Answers,
  question: Omit<Question, 'options'> & { tokensMax: number },
) {
  const { lineage, prompt, tokensMax } = question;
  const options = { tokensMax, temperature: 0, explain: true, besideBase: true };
  const answer = await answers.answer({ ...question, options });
  if (answer instanceof Refusal) return answer;
  const { version, generation, opened, shut } = answer;
  const found = await answers.historyOf(lineage, version);
  if (found instanceof Refusal) return found;
  const { log } = found.followed;
  const untouched = opened.length === 0;
  const { text, finish } = generation;
  const base = untouched ? generation : generation.base!;
  const ids = new Set(opened.flatMap(({ correction }) => correction?.id ?? []));
  const named = namedIn(prompt, found.history.active.values());
  const subjects = named.map(({ subject }) => subject);
  return {
    lineage,
    version,
    prompt,
    base: { text: base.text, finish: base.finish },
    edited: { text, finish },
    /** No gate opened, so the answer is the base model's, bit for bit. */
    untouched,
    /** In text order, per layer; `margin` is the score minus the threshold. */
    gates: opened.map(withMargin),
    /** Tokens that end a corrected subject's name and whose gate stayed shut; null if unknown. */
    shut: shut?.map(withMargin) ?? null,
    /** Corrections behind the gates that opened. */
    corrections: ids.size === 0 ? [] : await traces(log, { ids: [...ids].slice(0, TRACES_MAX) }),
    /** Corrected subjects that the prompt names, and their corrections; at most `NAMED_MAX`. */
    named,
    /** If no gate opened: corrections, active or not, with this prompt or paraphrase. */
    earlier: untouched ? await traces(log, { prompts: [prompt] }) : [],
    /** If no gate opened: refused corrections of this prompt or of the subjects it names. */
    refused: untouched ? await refusedAbout(log, { prompt, subjects }) : null,
  };
}

function withMargin(gate: OpenedGate) {
  return { ...gate, margin: gate.score - gate.threshold };
}

interface Named {
  subject: string;
  corrections: { id: string; prompt: string; target: string; version: number }[];
}

function namedIn(prompt: string, active: Iterable<ActiveCorrection>): Named[] {
  const named = new Map<string, Named>();
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
