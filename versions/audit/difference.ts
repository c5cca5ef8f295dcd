/**
 * What is different between two versions of a lineage, from the log and the stored probe details
 * alone: facts, answers that the probes saw change, norms, thresholds, scores, and what the
 * versions were made with. Either may be the later one.
 */
import type { ProbeScores, Removal } from '../../schemas/editing.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import type { ActiveCorrection, History, StoredEntry } from '../log/history.ts';
import { markOf, probesOf, type VersionMark } from './trace.ts';
import type { VersionLog } from '../log/version-log.ts';

export interface Difference {
  lineage: string;
  from: VersionSide;
  to: VersionSide;
  /**
   * Facts of which `to` alone has a correction. `by`: the version that brought it, and where an
   * undo did, its word.
   */
  added: (Fact & { by: VersionMark })[];
  /**
   * Facts that both have, with another correction each, and prompts that are answered by another
   * one now.
   */
  superseded: { before: Fact; after: Fact; by: VersionMark }[];
  /**
   * Facts of which `from` alone has a correction; how it left. Where `to` is the earlier version:
   * `not yet`.
   */
  retracted: (Fact & { by: Leaving })[];
  reverted: (Fact & { by: Leaving })[];
  contradicted: (Fact & { by: Leaving })[];
  notYet: (Fact & { by: VersionMark })[];
  /** Of `added` and `superseded`: those that an undo brought back. */
  restored: Fact[];
  /** Corrections that came and left again between the two. */
  passing: number;
  /**
   * Answers that the probes of the versions between saw change, as far as they did not change back
   * and the correction that was probed holds in the later version; `left` says how many more.
   */
  answers: { changed: ChangedAnswer[]; left: number };
  /**
   * Layers in either: the edit's relative norm and the gate's threshold; null for the base model,
   * which has neither.
   */
  layers: { layer: number; from: LayerFigures | null; to: LayerFigures | null }[];
  /**
   * Parameters, base model, key statistics and software that differ, by the path of what differs.
   */
  madeWith: { path: string; from: unknown; to: unknown }[];
}

export interface VersionSide {
  version: number;
  hash: string | null;
  createdAt: string | null;
  corrections: number;
  /** After its own probes; null for the base model. */
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

export type Leaving = VersionMark & { revision: string };

export interface ChangedAnswer {
  prompt: string;
  kind: 'own' | 'paraphrase' | 'neighbour';
  before: string;
  after: string;
  /** The correction that was probed, and the version of the last change. */
  correctionId: string;
  version: number;
}

type LayerFigures = { editNorm: number; threshold: number };

/** Changed answers that are told. */
export const CHANGED_ANSWERS_MAX = 2_000;

/** Throws `VersionUnknown`, `BlobMissing` and `VersionLogDamaged`. */
export async function differenceOf(log: VersionLog, from: number, to: number): Promise<Difference> {
  const [first, last] = [Math.min(from, to), Math.max(from, to)];
  const [early, late] = [await log.at(first), await log.at(last)];
  const between = new Between();
  for await (const stored of log.walk(first + 1)) {
    if (stored.entry.version > last) break;
    between.visit(stored, early);
  }
  const [a, b] = from <= to ? [early, late] : [late, early];
  const answers = await answersChanged(log, between.probed, late, from > to);
  return {
    lineage: log.lineage,
    from: sideOf(a),
    to: sideOf(b),
    ...factsOf(a, b, between, from > to),
    answers,
    layers: layersOf(a.latest?.entry, b.latest?.entry),
    madeWith: madeWithOf(a.latest?.entry, b.latest?.entry),
  };
}

interface ProbedVersion {
  version: number;
  details: VersionEntry['probes']['details'];
  /** Of the corrections it added, by id. */
  prompts: ReadonlyMap<string, string>;
}

/** What the versions between the two did. */
class Between {
  readonly probed: ProbedVersion[] = [];
  /** The version that last added a correction, and whether an undo did. */
  readonly added = new Map<string, VersionMark>();
  readonly left = new Map<string, Leaving & { because: Removal['because'] }>();
  passing = 0;

  visit(stored: StoredEntry, early: History): void {
    const { version, added, removed, probes } = stored.entry;
    this.probed.push({
      version,
      details: probes.details,
      prompts: new Map(added.map(({ correctionId, prompt }) => [correctionId, prompt])),
    });
    for (const { correctionId, because, by } of removed) {
      if (!early.active.has(correctionId)) this.passing += 1;
      this.left.set(correctionId, { ...markOf(stored), revision: by, because });
    }
    for (const { correctionId } of added) {
      if (this.left.has(correctionId) && !early.active.has(correctionId)) this.passing -= 1;
      this.added.set(correctionId, markOf(stored));
    }
  }
}

function factsOf(
  a: History,
  b: History,
  between: Between,
  backwards: boolean,
): Pick<
  Difference,
  | 'added'
  | 'superseded'
  | 'retracted'
  | 'reverted'
  | 'contradicted'
  | 'notYet'
  | 'restored'
  | 'passing'
> {
  const facts: ReturnType<typeof factsOf> = {
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
    (backwards ? between.left.get(id) : between.added.get(id)) ??
    between.added.get(id) ??
    between.left.get(id)!;
  for (const [id, after] of b.active) {
    if (a.active.has(id)) continue;
    const before = predecessorOf(a, b, id, after, between);
    const by = markFor(id);
    if (!backwards && by.undo !== null) facts.restored.push(factOf(after));
    if (before === null) facts.added.push({ ...factOf(after), by });
    else {
      replaced.add(before.correctionId);
      facts.superseded.push({ before: factOf(before), after: factOf(after), by });
    }
  }
  for (const [id, before] of a.active) {
    if (b.active.has(id) || replaced.has(id)) continue;
    const fact = factOf(before);
    const leaving = backwards ? undefined : lastLeaving(id, between);
    if (leaving === undefined) {
      facts.notYet.push({ ...fact, by: markFor(id) });
      continue;
    }
    const { because, ...by } = leaving;
    const successor = b.active.get(by.revision);
    if (because === 'superseded' && successor !== undefined)
      facts.superseded.push({ before: fact, after: factOf(successor), by });
    else if (because === 'contradicted') facts.contradicted.push({ ...fact, by });
    else if (because === 'reverted') facts.reverted.push({ ...fact, by });
    else facts.retracted.push({ ...fact, by });
  }
  return facts;
}

/**
 * The correction of `a` in whose place this one stands in `b`: of the same fact, or the one that it
 * is said to have superseded.
 */
function predecessorOf(
  a: History,
  b: History,
  id: string,
  { factKey }: ActiveCorrection,
  { left }: Between,
): ActiveCorrection | null {
  const sameFact = a.active.get(a.activeByFact.get(factKey) ?? '');
  if (sameFact !== undefined && !b.active.has(sameFact.correctionId)) return sameFact;
  for (const before of a.active.values())
    if (left.get(before.correctionId)?.revision === id && !b.active.has(before.correctionId))
      return before;
  return null;
}

/**
 * How a correction left, or where its successor left as well, how that one did: it has the last
 * word.
 */
function lastLeaving(
  id: string,
  { left }: Between,
): (Leaving & { because: Removal['because'] }) | undefined {
  let last = left.get(id);
  for (let steps = 0; steps < left.size && last?.because === 'superseded'; steps++) {
    const next = left.get(last.revision);
    if (next === undefined || next.version < last.version) break;
    last = next;
  }
  return last;
}

/** What was probed of a correction that has left since says nothing of the later version. */
async function answersChanged(
  log: VersionLog,
  versions: readonly ProbedVersion[],
  { active }: History,
  backwards: boolean,
): Promise<Difference['answers']> {
  const byPrompt = new Map<string, ChangedAnswer>();
  let left = 0;
  for (const { version, details, prompts } of versions) {
    for (const probe of await probesOf(log, details)) {
      const asked: [string, ChangedAnswer['kind'], string, string][] = [
        ...probe.paraphrases.map(
          ({
            prompt,
            answerBefore,
            answerAfter,
          }): [string, ChangedAnswer['kind'], string, string] => [
            prompt,
            'paraphrase',
            answerBefore,
            answerAfter,
          ],
        ),
        ...probe.neighbours.map(
          ({
            prompt,
            answerBefore,
            answerAfter,
          }): [string, ChangedAnswer['kind'], string, string] => [
            prompt,
            'neighbour',
            answerBefore,
            answerAfter,
          ],
        ),
      ];
      const own = prompts.get(probe.id);
      if (own !== undefined) asked.unshift([own, 'own', probe.answerBefore, probe.answerAfter]);
      for (const [prompt, kind, before, after] of asked) {
        const key = JSON.stringify([prompt, kind]);
        const known = byPrompt.get(key);
        if (known !== undefined) Object.assign(known, { after, correctionId: probe.id, version });
        else if (before !== after && byPrompt.size < CHANGED_ANSWERS_MAX)
          byPrompt.set(key, { prompt, kind, before, after, correctionId: probe.id, version });
        else if (before !== after) left += 1;
      }
    }
  }
  const changed = [...byPrompt.values()].filter(
    ({ before, after, correctionId }) => before !== after && active.has(correctionId),
  );
  return {
    changed: backwards
      ? changed.map((one) => ({ ...one, before: one.after, after: one.before }))
      : changed,
    left,
  };
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

function layersOf(a: VersionEntry | undefined, b: VersionEntry | undefined): Difference['layers'] {
  const of = (entry: VersionEntry | undefined, layer: number): LayerFigures | null => {
    const found = entry?.layers.find((one) => one.layer === layer);
    return found === undefined ? null : { editNorm: found.editNorm, threshold: found.threshold };
  };
  const layers = [
    ...new Set([...(a?.layers ?? []), ...(b?.layers ?? [])].map(({ layer }) => layer)),
  ].sort((x, y) => x - y);
  return layers.map((layer) => ({ layer, from: of(a, layer), to: of(b, layer) }));
}

/** The base model has no entry: against it nothing was made with anything else. */
function madeWithOf(
  a: VersionEntry | undefined,
  b: VersionEntry | undefined,
): Difference['madeWith'] {
  if (a === undefined || b === undefined) return [];
  const of = ({ parameters, base, keyStatistics, software }: VersionEntry) =>
    leavesOf({ parameters, base, keyStatistics, software });
  const [made, now] = [of(a), of(b)];
  return [...new Set([...made.keys(), ...now.keys()])].sort().flatMap((path) => {
    const [from, to] = [made.get(path) ?? null, now.get(path) ?? null];
    return JSON.stringify(from) === JSON.stringify(to) ? [] : [{ path, from, to }];
  });
}

function leavesOf(value: unknown, path = ''): Map<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return new Map([[path, value]]);
  return new Map(
    Object.entries(value).flatMap(([name, item]) => [
      ...leavesOf(item, path === '' ? name : `${path}.${name}`),
    ]),
  );
}

function factOf({
  correctionId,
  factKey,
  subject,
  prompt,
  target,
  source,
}: ActiveCorrection): Fact {
  return { correctionId, factKey, subject, prompt, target, source };
}
