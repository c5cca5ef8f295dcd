/**
 * Compares two versions of a lineage by the log and the stored probe details: facts, changed
 * answers, norms, thresholds, scores, and the model and parameters used. Either version may be the
 * later one.
 */
import type { ProbeScores, Removal } from '../../schemas/editing.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import type { ActiveCorrection, History, StoredEntry } from '../log/history.ts';
import type { VersionLog } from '../log/version-log.ts';
import { markOf, probesOf, type VersionMark } from './version-mark.ts';

export interface Difference extends ChangedFacts {
  lineage: string;
  from: VersionSide;
  to: VersionSide;
  /**
   * Answers that the probes of the versions in between saw change and not change back, for
   * corrections that hold in the later version. `left` counts those that are not listed.
   */
  answers: { changed: ChangedAnswer[]; left: number };
  /** Relative norm of the edit and threshold of the gate per layer; null for the base model. */
  layers: { layer: number; from: LayerFigures | null; to: LayerFigures | null }[];
  /** Parameters, base model, key statistics and software that differ, by their path. */
  madeWith: { path: string; from: unknown; to: unknown }[];
}

interface ChangedFacts {
  /** Facts that only `to` has a correction of, with the version that added it. */
  added: (Fact & { by: VersionMark })[];
  /** Facts whose correction differs, and prompts that another correction now answers. */
  superseded: { before: Fact; after: Fact; by: VersionMark }[];
  /** Facts that only `from` has a correction of, with the reason that it left. */
  retracted: (Fact & { by: Leaving })[];
  reverted: (Fact & { by: Leaving })[];
  contradicted: (Fact & { by: Leaving })[];
  /** The same as `retracted`, where `to` is the earlier version. */
  notYet: (Fact & { by: VersionMark })[];
  /** Facts of `added` and `superseded` that an undo restored. */
  restored: Fact[];
  /** Number of corrections that were added and removed between the two versions. */
  passing: number;
}

export interface VersionSide {
  version: number;
  hash: string | null;
  createdAt: string | null;
  corrections: number;
  /** Scores of the version's own probes; null for the base model. */
  scores: ProbeScores | null;
}

export interface Fact {
  correctionId: string;
  factKey: string;
  subject: string;
  prompt: string;
  target: string;
  source: string;
}

type Leaving = VersionMark & { revision: string };
type Left = Leaving & { because: Removal['because'] };

const KINDS = ['own', 'paraphrase', 'neighbour'] as const;

interface ChangedAnswer {
  prompt: string;
  kind: (typeof KINDS)[number];
  before: string;
  after: string;
  /** The probed correction, and the version that last changed its answer. */
  correctionId: string;
  version: number;
}

type LayerFigures = { editNorm: number; threshold: number };

const CHANGED_ANSWERS_MAX = 2_000;

/** Throws `VersionUnknown`, `BlobMissing` and `VersionLogDamaged`. */
export async function differenceOf(log: VersionLog, from: number, to: number): Promise<Difference> {
  const [first, last] = [Math.min(from, to), Math.max(from, to)];
  const [early, late] = [await log.at(first), await log.at(last)];
  const between = new Between();
  for await (const stored of log.walk(first + 1)) {
    if (stored.entry.version > last) break;
    between.visit(stored, early);
  }
  const isBackwards = from > to;
  const [a, b] = isBackwards ? [late, early] : [early, late];
  const { changed, left } = await answersChanged(log, between.entries, late);
  return {
    lineage: log.lineage,
    from: sideOf(a),
    to: sideOf(b),
    ...changedFacts(a, b, between, isBackwards),
    answers: { changed: isBackwards ? changed.map(reversed) : changed, left },
    layers: layersOf(a.latest?.entry, b.latest?.entry),
    madeWith: madeWithOf(a.latest?.entry, b.latest?.entry),
  };
}

class Between {
  readonly entries: VersionEntry[] = [];
  /** The version that last added a correction. */
  readonly added = new Map<string, VersionMark>();
  readonly left = new Map<string, Left>();
  passing = 0;

  visit(stored: StoredEntry, early: History): void {
    const { added, removed } = stored.entry;
    this.entries.push(stored.entry);
    for (const { correctionId, because, by } of removed) {
      if (!early.active.has(correctionId)) this.passing += 1;
      this.left.set(correctionId, { ...markOf(stored), revision: by, because });
    }
    for (const { correctionId } of added) {
      if (this.left.has(correctionId) && !early.active.has(correctionId)) this.passing -= 1;
      this.added.set(correctionId, markOf(stored));
    }
  }

  /**
   * Returns how a correction left. If its successor left too, returns how the successor left, since
   * that decided the fact last.
   */
  lastLeaving(id: string): Left | undefined {
    let last = this.left.get(id);
    for (let steps = 0; steps < this.left.size && last?.because === 'superseded'; steps++) {
      const next = this.left.get(last.revision);
      if (next === undefined || next.version < last.version) break;
      last = next;
    }
    return last;
  }
}

function changedFacts(
  a: History,
  b: History,
  between: Between,
  isBackwards: boolean,
): ChangedFacts {
  const facts: ChangedFacts = {
    added: [],
    superseded: [],
    retracted: [],
    reverted: [],
    contradicted: [],
    notYet: [],
    restored: [],
    passing: between.passing,
  };
  const replaced = new Set<string>();
  const markFor = (id: string): VersionMark =>
    (isBackwards ? between.left.get(id) : undefined) ??
    between.added.get(id) ??
    between.left.get(id)!;
  for (const [id, correction] of b.active) {
    if (a.active.has(id)) continue;
    const before = predecessorOf(a, b, correction, between);
    const [after, by] = [factOf(correction), markFor(id)];
    if (!isBackwards && by.undo !== null) facts.restored.push(after);
    if (before === null) facts.added.push({ ...after, by });
    else {
      replaced.add(before.correctionId);
      facts.superseded.push({ before: factOf(before), after, by });
    }
  }
  for (const [id, correction] of a.active) {
    if (b.active.has(id) || replaced.has(id)) continue;
    const before = factOf(correction);
    const leaving = isBackwards ? undefined : between.lastLeaving(id);
    if (leaving === undefined) {
      facts.notYet.push({ ...before, by: markFor(id) });
      continue;
    }
    const { because, ...by } = leaving;
    const successor = b.active.get(by.revision);
    if (because === 'superseded' && successor !== undefined)
      facts.superseded.push({ before, after: factOf(successor), by });
    else facts[because === 'superseded' ? 'retracted' : because].push({ ...before, by });
  }
  return facts;
}

/** Returns the correction of `a` that this one of `b` replaced: same fact, or superseded. */
function predecessorOf(
  a: History,
  b: History,
  { correctionId: id, factKey }: ActiveCorrection,
  { left }: Between,
): ActiveCorrection | null {
  const sameFact = a.active.get(a.activeByFact.get(factKey) ?? '');
  if (sameFact !== undefined && !b.active.has(sameFact.correctionId)) return sameFact;
  for (const before of a.active.values())
    if (left.get(before.correctionId)?.revision === id && !b.active.has(before.correctionId))
      return before;
  return null;
}

/** Skips corrections that have left: their probes say nothing about the later version. */
async function answersChanged(
  log: VersionLog,
  entries: readonly VersionEntry[],
  { active }: History,
): Promise<Difference['answers']> {
  const byPrompt = new Map<string, ChangedAnswer>();
  let left = 0;
  for (const entry of entries)
    for (const answer of await probedAnswers(log, entry)) {
      const key = JSON.stringify([answer.prompt, answer.kind]);
      const known = byPrompt.get(key);
      if (known !== undefined) byPrompt.set(key, { ...answer, before: known.before });
      else if (answer.before === answer.after) continue;
      else if (byPrompt.size < CHANGED_ANSWERS_MAX) byPrompt.set(key, answer);
      else left += 1;
    }
  const changed = [...byPrompt.values()].filter(
    ({ before, after, correctionId }) => before !== after && active.has(correctionId),
  );
  return { changed, left };
}

async function probedAnswers(
  log: VersionLog,
  { version, added, probes }: VersionEntry,
): Promise<ChangedAnswer[]> {
  const prompts = new Map(added.map(({ correctionId, prompt }) => [correctionId, prompt]));
  return (await probesOf(log, probes.details)).flatMap((probe) => {
    const prompt = prompts.get(probe.id);
    const { id: correctionId, paraphrases, neighbours } = probe;
    const answers = {
      own: prompt === undefined ? [] : [{ ...probe, prompt }],
      paraphrase: paraphrases,
      neighbour: neighbours,
    };
    return KINDS.flatMap((kind) =>
      answers[kind].map(({ prompt, answerBefore: before, answerAfter: after }) => ({
        prompt,
        kind,
        before,
        after,
        correctionId,
        version,
      })),
    );
  });
}

function reversed(answer: ChangedAnswer): ChangedAnswer {
  return { ...answer, before: answer.after, after: answer.before };
}

function sideOf({ head, latest, active }: History): VersionSide {
  return {
    version: head.version,
    hash: head.hash,
    createdAt: latest?.entry.createdAt ?? null,
    corrections: active.size,
    scores: latest?.entry.probes.after ?? null,
  };
}

function layersOf(a?: VersionEntry, b?: VersionEntry): Difference['layers'] {
  const figures = (entry: VersionEntry | undefined, layer: number): LayerFigures | null => {
    const found = entry?.layers.find((one) => one.layer === layer);
    return found === undefined ? null : { editNorm: found.editNorm, threshold: found.threshold };
  };
  const layers = new Set([...(a?.layers ?? []), ...(b?.layers ?? [])].map(({ layer }) => layer));
  return [...layers]
    .sort((x, y) => x - y)
    .map((layer) => ({ layer, from: figures(a, layer), to: figures(b, layer) }));
}

/** Returns an empty list against the base model, which has no entry. */
function madeWithOf(a?: VersionEntry, b?: VersionEntry): Difference['madeWith'] {
  if (a === undefined || b === undefined) return [];
  const [made, now] = [a, b].map(({ parameters, base, keyStatistics, software }) =>
    leavesOf({ parameters, base, keyStatistics, software }),
  ) as [Map<string, unknown>, Map<string, unknown>];
  return [...new Set([...made.keys(), ...now.keys()])].sort().flatMap((path) => {
    const [from, to] = [made.get(path) ?? null, now.get(path) ?? null];
    return JSON.stringify(from) === JSON.stringify(to) ? [] : [{ path, from, to }];
  });
}

function leavesOf(value: unknown, path = ''): Map<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return new Map([[path, value]]);
  const inner = path === '' ? '' : `${path}.`;
  return new Map(
    Object.entries(value).flatMap(([name, item]) => [...leavesOf(item, inner + name)]),
  );
}

function factOf(correction: ActiveCorrection): Fact {
  const { correctionId, factKey, subject, prompt, target, source } = correction;
  return { correctionId, factKey, subject, prompt, target, source };
}
