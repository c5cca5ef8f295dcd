/**
 * Collects everything that is stored about one correction: its record and outcome, the version that
 * committed it with its probes, and its changes by later versions. It only reads, so read access
 * suffices for an audit.
 *
 * The entries are walked once, from the correction's version on. The register gives the place to
 * begin, and the outcome of a revision that no version has.
 */
import { normalisedText } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import type { CorrectionProbe, ProbeScores, Removal } from '../../schemas/editing.ts';
import { undoRevisionId } from '../../schemas/undo.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import { firstOutcomes } from '../log/entry-outcomes.ts';
import type { AddedCorrection, StoredEntry } from '../log/history.ts';
import type { VersionLog } from '../log/version-log.ts';
import { markOf, probesOf, type VersionMark } from './version-mark.ts';

/**
 * `holds`: the current version has it. `left`: an earlier version had it. `carried-out`: a
 * retraction that a version carried out. `never-held`: no version ever had it.
 */
type TraceState = 'holds' | 'left' | 'carried-out' | 'never-held';

export interface Trace {
  lineage: string;
  id: string;
  kind: 'correction' | 'retraction';
  state: TraceState;
  /** The record in the version; null for retractions and for revisions that no version has. */
  correction: Omit<AddedCorrection, 'correctionId' | 'row'> | null;
  /** First outcome, with the place in Kafka. */
  outcome: Outcome;
  /** The version that first had it, or carried it out. */
  committed: Commit | null;
  /** Its changes by later versions, in order; for a retraction, the changes that it made. */
  later: Touch[];
  /** Later versions that changed the same subject, since corrections of a subject share a map. */
  sameSubject: SubjectTouch[];
  /** The revision that it resubmits, and the one that this resubmits, the latest first. */
  replayOf: { id: string; outcome: Outcome | null }[];
  /** Committed corrections that resubmit it. */
  replayedBy: { id: string; version: number }[];
}

export interface Commit extends VersionMark {
  /** Its probe in that version; null for a retraction. */
  probe: CorrectionProbe | null;
  scores: { before: ProbeScores; after: ProbeScores };
  layers: VersionEntry['layers'];
}

export type Change = Removal['because'] | 'restored';

export interface Touch extends VersionMark {
  /** The correction that was changed: this one, or for a retraction another one. */
  correctionId: string;
  change: Change;
  /** The revision or undo that caused it. */
  by: string;
  /** The correction that replaced it. */
  successor: { id: string; target: string } | null;
}

export interface SubjectTouch {
  version: number;
  createdAt: string;
  correctionId: string;
  change: 'added' | Change;
  prompt: string | null;
  target: string | null;
}

/** Selects traces. Subjects and prompts are compared in Unicode NFC with white space collapsed. */
export interface Wanted {
  ids?: readonly string[];
  subjects?: readonly string[];
  /** Prompts of corrections, their paraphrases included. */
  prompts?: readonly string[];
}

/** Traces that one request returns, the latest. */
export const TRACES_MAX = 50;
/** Changes of the same subject that a trace holds, the latest. */
const SUBJECT_TOUCHES_MAX = 100;
/** Resubmissions that are followed from one revision. */
const REPLAYS_MAX = 16;

/**
 * Returns the requested traces, the latest first; an id that was never decided has none. Versions
 * after `upTo` are left out. Throws `VersionLogDamaged`.
 */
export async function traces(log: VersionLog, wanted: Wanted, upTo = Infinity): Promise<Trace[]> {
  return await new Tracer(log, wanted).traces(upTo);
}

interface Draft {
  id: string;
  kind: Trace['kind'];
  added: AddedCorrection | null;
  entry: StoredEntry;
  later: Touch[];
  holds: boolean;
}

class Tracer {
  readonly #log: VersionLog;
  readonly #ids: Set<string>;
  readonly #subjects: ReadonlySet<string>;
  readonly #prompts: ReadonlySet<string>;
  readonly #drafts = new Map<string, Draft>();
  readonly #outcomes = new Map<string, Outcome>();
  /** Keyed by the subject of the traced corrections. */
  readonly #touches = new Map<string, SubjectTouch[]>();
  /** Keyed by correction, for those subjects. */
  readonly #subjectOf = new Map<string, string>();
  readonly #replayedBy = new Map<string, Trace['replayedBy']>();

  constructor(log: VersionLog, { ids = [], subjects = [], prompts = [] }: Wanted) {
    this.#log = log;
    this.#ids = new Set(ids);
    this.#subjects = new Set(subjects.map(normalisedText));
    this.#prompts = new Set(prompts.map(normalisedText));
  }

  async traces(upTo: number): Promise<Trace[]> {
    await this.#loadOutcomes(this.#ids);
    for await (const stored of this.#log.walk(this.#firstVersion())) {
      if (stored.entry.version > upTo) break;
      this.#visit(stored);
    }
    const latest = [...this.#drafts.values()]
      .sort((a, b) => b.entry.entry.version - a.entry.entry.version)
      .slice(0, TRACES_MAX);
    await this.#loadOutcomes(latest.map(({ id }) => id));
    const refused = [...this.#outcomes.values()].filter(
      ({ revisionId }) => this.#ids.has(revisionId) && !this.#drafts.has(revisionId),
    );
    return await Promise.all([
      ...latest.map((draft) => this.#traceOf(draft)),
      ...refused.map((outcome) => this.#traceOfRefused(outcome)),
    ]);
  }

  async #loadOutcomes(ids: Iterable<string>): Promise<void> {
    for (const [id, outcome] of await this.#log.registered.outcomesOf(ids))
      this.#outcomes.set(id, outcome);
  }

  /** Starts at the first version of the ids if only ids are requested and all are registered. */
  #firstVersion(): number {
    if (this.#subjects.size > 0 || this.#prompts.size > 0) return 1;
    const versions = [...this.#ids].map((id) => this.#outcomes.get(id)?.version ?? null);
    return versions.every((version) => version !== null) ? Math.min(...versions) : 1;
  }

  #visit(stored: StoredEntry): void {
    const { added, removed, retractions } = stored.entry;
    for (const { correctionId, because, by } of removed) {
      const successor = added.find((one) => one.correctionId === by);
      const touch: Touch = {
        ...markOf(stored),
        correctionId,
        change: because,
        by,
        successor: successor === undefined ? null : { id: by, target: successor.target },
      };
      this.#touch(correctionId, touch, false);
      if (this.#ids.has(by) && retractions.some(({ id }) => id === by))
        this.#retractionDraft(by, stored).later.push(touch);
      const nothing = { prompt: null, target: null };
      this.#touchSubject(stored, { correctionId, change: because, ...nothing });
    }
    for (const one of added) this.#visitAdded(one, stored);
  }

  #visitAdded(added: AddedCorrection, stored: StoredEntry): void {
    const { entry } = stored;
    const { correctionId: id, prompt, target, replayOf } = added;
    if (replayOf !== undefined)
      this.#replayedBy.set(replayOf, [
        ...(this.#replayedBy.get(replayOf) ?? []),
        { id, version: entry.version },
      ]);
    const about = normalisedText(added.subject);
    const isKnown = this.#drafts.has(id);
    if (isKnown) {
      const by = entry.undo === undefined ? entry.batchId : undoRevisionId(entry.undo);
      const touch = { correctionId: id, change: 'restored', by, successor: null } as const;
      this.#touch(id, { ...markOf(stored), ...touch }, true);
    } else if (this.#isWanted(added)) {
      const draft = { id, added, entry: stored, later: [], holds: true };
      this.#drafts.set(id, { ...draft, kind: 'correction' });
      if (!this.#touches.has(about)) this.#touches.set(about, []);
    }
    if (this.#touches.has(about)) this.#subjectOf.set(id, about);
    const change = isKnown ? 'restored' : 'added';
    this.#touchSubject(stored, { correctionId: id, change, prompt, target });
  }

  #isWanted({ correctionId, subject, prompt, paraphrases }: AddedCorrection): boolean {
    return (
      this.#ids.has(correctionId) ||
      this.#subjects.has(normalisedText(subject)) ||
      (this.#prompts.size > 0 &&
        [prompt, ...paraphrases].some((one) => this.#prompts.has(normalisedText(one))))
    );
  }

  #touch(id: string, touch: Touch, holds: boolean): void {
    const draft = this.#drafts.get(id);
    if (draft === undefined) return;
    draft.later.push(touch);
    draft.holds = holds;
  }

  #retractionDraft(id: string, entry: StoredEntry): Draft {
    const known = this.#drafts.get(id);
    if (known !== undefined) return known;
    const draft: Draft = { id, kind: 'retraction', added: null, entry, later: [], holds: false };
    this.#drafts.set(id, draft);
    return draft;
  }

  #touchSubject({ entry }: StoredEntry, touch: Omit<SubjectTouch, 'version' | 'createdAt'>): void {
    const subject = this.#subjectOf.get(touch.correctionId);
    if (subject === undefined) return;
    const { version, createdAt } = entry;
    this.#touches.get(subject)?.push({ version, createdAt, ...touch });
  }

  async #traceOf({ id, kind, added, entry: stored, later, holds }: Draft): Promise<Trace> {
    const { entry } = stored;
    const { probes, layers, version } = entry;
    const about = added === null ? [] : (this.#touches.get(normalisedText(added.subject)) ?? []);
    const details = await probesOf(this.#log, probes.details);
    return {
      lineage: this.#log.lineage,
      id,
      kind,
      state: kind === 'retraction' ? 'carried-out' : holds ? 'holds' : 'left',
      correction: added === null ? null : recordOf(added),
      // The last version may not be registered yet. Its entry then has the outcome.
      outcome:
        this.#outcomes.get(id) ?? firstOutcomes(entry).find(({ revisionId }) => revisionId === id)!,
      committed: {
        ...markOf(stored),
        probe: details.find((probe) => probe.id === id) ?? null,
        scores: { before: probes.before, after: probes.after },
        layers,
      },
      later,
      sameSubject: about
        .filter((touch) => touch.correctionId !== id && touch.version > version)
        .slice(-SUBJECT_TOUCHES_MAX),
      ...(await this.#replaysOf(id, added?.replayOf)),
    };
  }

  async #traceOfRefused(outcome: Outcome): Promise<Trace> {
    const { revisionId: id } = outcome;
    return {
      lineage: this.#log.lineage,
      id,
      kind: id.startsWith('retract:') ? 'retraction' : 'correction',
      state: 'never-held',
      correction: null,
      outcome,
      committed: null,
      later: [],
      sameSubject: [],
      ...(await this.#replaysOf(id, undefined)),
    };
  }

  async #replaysOf(
    id: string,
    replayOf: string | undefined,
  ): Promise<Pick<Trace, 'replayOf' | 'replayedBy'>> {
    const chain: Trace['replayOf'] = [];
    let next = replayOf ?? resubmittedIn(id);
    while (next !== null && chain.length < REPLAYS_MAX) {
      const outcomes = await this.#log.registered.outcomesOf([next]);
      const outcome = outcomes.get(next) ?? null;
      // The name alone is only a guess, which the register must confirm.
      if (outcome === null && next !== replayOf) break;
      chain.push({ id: next, outcome });
      next = resubmittedIn(next);
    }
    return { replayOf: chain, replayedBy: this.#replayedBy.get(id) ?? [] };
  }
}

function recordOf(added: AddedCorrection): NonNullable<Trace['correction']> {
  const { correctionId: _, row: __, ...record } = added;
  return record;
}

/** Returns the original id of a resubmission: those of "a" are named "a~2", "a~3" and so on. */
function resubmittedIn(id: string): string | null {
  const [, before, count] = /^(.+)~(\d{1,3})$/su.exec(id) ?? [];
  if (before === undefined || Number(count) < 2) return null;
  return Number(count) === 2 ? before : `${before}~${Number(count) - 1}`;
}
