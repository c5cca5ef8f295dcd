/**
 * Everything that is stored about one correction, put side by side: the record that asked for it,
 * what became of it, the version that committed it and what was asked of the model then, and what
 * later versions did to it. It is read and nothing is written, so that an auditor who may only read
 * can ask.
 *
 * The entries are walked once, from the version of the correction on: what they say is what
 * happened. The register tells where to begin, and of what no version carries.
 */
import { normalisedText, type KafkaPosition } from '../../schemas/correction.ts';
import type { CorrectionProbe, Outcome, ProbeScores, Removal } from '../../schemas/editing.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import type { AddedCorrection, StoredEntry } from '../log/history.ts';
import type { VersionLog } from '../log/version-log.ts';

/**
 * `holds`: the model answers with it now. `left`: it did. `carried-out`: a retraction of which a
 * version says so. `never-held`: no version ever had it.
 */
export type TraceState = 'holds' | 'left' | 'carried-out' | 'never-held';

export interface Trace {
  lineage: string;
  id: string;
  kind: 'correction' | 'retraction';
  state: TraceState;
  /**
   * The record as the version has it; null for a retraction and for what no version has: the
   * outcome tells its place in Kafka.
   */
  correction: Omit<AddedCorrection, 'correctionId' | 'row'> | null;
  /** Its first outcome, which names its place in Kafka. */
  outcome: Outcome;
  /** The version that first had it, or carried it out. */
  committed: Commit | null;
  /** What later versions did to it, in order. Of a retraction: what it took out. */
  later: Touch[];
  /** Later versions that changed what is said of the same subject: they share its map. */
  sameSubject: SubjectTouch[];
  /** What it was sent again for, and what that had been sent again for, the latest first. */
  replayOf: { id: string; outcome: Outcome | null }[];
  /** Committed corrections that were sent for it. */
  replayedBy: { id: string; version: number }[];
}

/** A version, as far as a reader needs it to look for more. */
export interface VersionMark {
  version: number;
  hash: string;
  createdAt: string;
  batchId: string;
  workflow: VersionEntry['workflow'];
  /** Where an operator's word made the version. */
  undo: { id: string; reason: string; requestedBy: string } | null;
}

export interface Commit extends VersionMark {
  /** What was asked about this correction then; null for a retraction. */
  probe: CorrectionProbe | null;
  scores: { before: ProbeScores; after: ProbeScores };
  layers: VersionEntry['layers'];
}

export type Change = Removal['because'] | 'restored';

export interface Touch extends VersionMark {
  /** The correction that was touched: this one, or of a retraction another. */
  correctionId: string;
  change: Change;
  /** The revision or undo that asked for it. */
  by: string;
  /** What the correction that took its place says. */
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

/**
 * Whom or what a trace is asked of. Subjects and prompts are equal as facts are: in Unicode NFC,
 * runs of white space as one.
 */
export interface Wanted {
  ids?: readonly string[];
  subjects?: readonly string[];
  /** A correction's own prompt, or one of its paraphrases. */
  prompts?: readonly string[];
}

/** Corrections that one question tells of; of a subject with more the latest. */
export const TRACES_MAX = 50;
/** Touches that are told of the same subject, the latest. */
const SUBJECT_TOUCHES_MAX = 100;
/** Outcomes of the register that one question reads. */
const DECIDED_READ_MAX = 20_000;
/** How often what is sent again may have been sent again. */
const REPLAYS_MAX = 16;

/**
 * The traces of what was asked for, the latest first; an id that was never decided has none. `upTo`
 * leaves out what later versions did. Throws `VersionLogDamaged`.
 */
export async function traces(
  log: VersionLog,
  wanted: Wanted,
  upTo = Number.MAX_SAFE_INTEGER,
): Promise<Trace[]> {
  return await new Tracer(log, wanted, upTo).traces();
}

/**
 * Outcomes of what no version has, whose fact is about one of the subjects or is asked by the
 * prompt, the latest first. Reads the register, as far as `DECIDED_READ_MAX`; `complete` says
 * whether that was all of it.
 */
export async function refusedAbout(
  log: VersionLog,
  about: { subjects?: readonly string[]; prompt?: string },
): Promise<{ outcomes: Outcome[]; complete: boolean }> {
  const subjects = new Set(about.subjects?.map(normalisedText));
  const prompt = about.prompt === undefined ? null : normalisedText(about.prompt);
  const outcomes: Outcome[] = [];
  let read = 0;
  for await (const outcome of log.registered.decided()) {
    if (++read > DECIDED_READ_MAX) break;
    if (outcome.status === 'COMMITTED' || outcome.status === 'RETRACTED') continue;
    const fact = factOf(outcome.factKey);
    if (
      fact !== null &&
      (subjects.has(fact.subject) || (prompt !== null && fact.prompt === prompt))
    )
      outcomes.push(outcome);
  }
  return {
    outcomes: outcomes.sort((a, b) => b.decidedAt - a.decidedAt).slice(0, TRACES_MAX),
    complete: read <= DECIDED_READ_MAX,
  };
}

/**
 * What a fact's key says: the subject, and the prompt where the fact has no relation of its own.
 */
export function factOf(
  factKey: string,
): { subject: string; relation: string; prompt: string | null } | null {
  const [, subject, relation] = /^((?:[^\\|]|\\.)*)\|((?:[^\\|]|\\.)*)$/su.exec(factKey) ?? [];
  if (subject === undefined || relation === undefined) return null;
  const [plainSubject, plainRelation] = [subject, relation].map((part) =>
    part.replace(/\\(.)/gsu, '$1'),
  ) as [string, string];
  return {
    subject: plainSubject,
    relation: plainRelation,
    prompt: plainRelation.includes('{}') ? plainRelation.replace('{}', () => plainSubject) : null,
  };
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
  readonly #upTo: number;
  readonly #ids: Set<string>;
  readonly #subjects: ReadonlySet<string>;
  readonly #prompts: ReadonlySet<string>;
  readonly #drafts = new Map<string, Draft>();
  readonly #outcomes = new Map<string, Outcome>();
  /** By the subject of the corrections that are traced, and whose each correction is. */
  readonly #touches = new Map<string, SubjectTouch[]>();
  readonly #subjectOf = new Map<string, string>();
  readonly #replayedBy = new Map<string, Trace['replayedBy']>();

  constructor(log: VersionLog, { ids = [], subjects = [], prompts = [] }: Wanted, upTo: number) {
    this.#log = log;
    this.#upTo = upTo;
    this.#ids = new Set(ids);
    this.#subjects = new Set(subjects.map(normalisedText));
    this.#prompts = new Set(prompts.map(normalisedText));
  }

  async traces(): Promise<Trace[]> {
    for (const [id, outcome] of await this.#log.registered.outcomesOf(this.#ids))
      this.#outcomes.set(id, outcome);
    for await (const stored of this.#log.walk(this.#firstVersion())) {
      if (stored.entry.version > this.#upTo) break;
      this.#visit(stored);
    }
    const latest = [...this.#drafts.values()]
      .sort((a, b) => b.entry.entry.version - a.entry.entry.version)
      .slice(0, TRACES_MAX);
    for (const [id, outcome] of await this.#log.registered.outcomesOf(latest.map(({ id }) => id)))
      this.#outcomes.set(id, outcome);
    const refused = [...this.#outcomes.values()].filter(
      ({ revisionId }) => this.#ids.has(revisionId) && !this.#drafts.has(revisionId),
    );
    return [
      ...(await Promise.all(latest.map((draft) => this.#traceOf(draft)))),
      ...(await Promise.all(refused.map((outcome) => this.#traceOfRefused(outcome)))),
    ];
  }

  /**
   * Where the ids alone are asked for and all of them are registered, nothing before the first of
   * their versions matters.
   */
  #firstVersion(): number {
    if (this.#subjects.size > 0 || this.#prompts.size > 0) return 1;
    const versions = [...this.#ids].map((id) => this.#outcomes.get(id)?.version ?? null);
    return versions.every((version) => version !== null) ? Math.min(...versions) : 1;
  }

  #visit(stored: StoredEntry): void {
    const { entry } = stored;
    for (const { correctionId, because, by } of entry.removed) {
      const successor = entry.added.find((added) => added.correctionId === by);
      const touch = {
        ...markOf(stored),
        correctionId,
        change: because,
        by,
        successor: successor === undefined ? null : { id: by, target: successor.target },
      };
      const draft = this.#drafts.get(correctionId);
      if (draft !== undefined) {
        draft.later.push(touch);
        draft.holds = false;
      }
      if (this.#ids.has(by) && entry.retractions.some(({ id }) => id === by))
        this.#retractionDraft(by, stored).later.push(touch);
      this.#touchSubject(this.#subjectOf.get(correctionId), {
        version: entry.version,
        createdAt: entry.createdAt,
        correctionId,
        change: because,
        prompt: null,
        target: null,
      });
    }
    for (const added of entry.added) this.#visitAdded(added, stored);
  }

  #visitAdded(added: AddedCorrection, stored: StoredEntry): void {
    const { entry } = stored;
    const { correctionId: id, subject, prompt, paraphrases, target, replayOf } = added;
    if (replayOf !== undefined)
      this.#replayedBy.set(replayOf, [
        ...(this.#replayedBy.get(replayOf) ?? []),
        { id, version: entry.version },
      ]);
    const known = this.#drafts.get(id);
    const about = normalisedText(subject);
    if (known !== undefined) {
      known.later.push({
        ...markOf(stored),
        correctionId: id,
        change: 'restored',
        by: entry.undo === undefined ? entry.batchId : `undo:${entry.undo.id}`,
        successor: null,
      });
      known.holds = true;
    } else if (
      this.#ids.has(id) ||
      this.#subjects.has(about) ||
      (this.#prompts.size > 0 &&
        [prompt, ...paraphrases].some((one) => this.#prompts.has(normalisedText(one))))
    ) {
      this.#drafts.set(id, {
        id,
        kind: 'correction',
        added,
        entry: stored,
        later: [],
        holds: true,
      });
      if (!this.#touches.has(about)) this.#touches.set(about, []);
    }
    if (!this.#touches.has(about)) return;
    this.#subjectOf.set(id, about);
    this.#touchSubject(about, {
      version: entry.version,
      createdAt: entry.createdAt,
      correctionId: id,
      change: known === undefined ? 'added' : 'restored',
      prompt,
      target,
    });
  }

  #retractionDraft(id: string, stored: StoredEntry): Draft {
    let draft = this.#drafts.get(id);
    if (draft === undefined)
      this.#drafts.set(
        id,
        (draft = { id, kind: 'retraction', added: null, entry: stored, later: [], holds: false }),
      );
    return draft;
  }

  #touchSubject(subject: string | undefined, touch: SubjectTouch): void {
    if (subject !== undefined) this.#touches.get(subject)?.push(touch);
  }

  async #traceOf({ id, kind, added, entry: stored, later, holds }: Draft): Promise<Trace> {
    const { entry } = stored;
    const about = added === null ? [] : (this.#touches.get(normalisedText(added.subject)) ?? []);
    return {
      lineage: this.#log.lineage,
      id,
      kind,
      state: kind === 'retraction' ? 'carried-out' : holds ? 'holds' : 'left',
      correction: added === null ? null : recordOf(added),
      outcome: this.#outcomes.get(id) ?? outcomeFrom(stored, id),
      committed: {
        ...markOf(stored),
        probe: await this.#probeOf(entry, id),
        scores: { before: entry.probes.before, after: entry.probes.after },
        layers: entry.layers,
      },
      later,
      sameSubject: about
        .filter((touch) => touch.correctionId !== id && touch.version > entry.version)
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
    // An id that was sent again is followed by "~2", "~3" and so on, so that what no version has
    // tells whose repetition it was.
    let next = replayOf ?? repeatedIn(id);
    while (next !== null && chain.length < REPLAYS_MAX) {
      const outcome: Outcome | null =
        (await this.#log.registered.outcomesOf([next])).get(next) ?? null;
      // By its name alone it is only a guess, which the register must bear out.
      if (outcome === null && next !== replayOf) break;
      chain.push({ id: next, outcome });
      next = repeatedIn(next);
    }
    return { replayOf: chain, replayedBy: this.#replayedBy.get(id) ?? [] };
  }

  async #probeOf({ probes }: VersionEntry, id: string): Promise<CorrectionProbe | null> {
    return (await probesOf(this.#log, probes.details)).find((probe) => probe.id === id) ?? null;
  }
}

/**
 * What was asked and answered when a version was probed. Throws `BlobMissing` and
 * `VersionLogDamaged`.
 */
export async function probesOf(
  log: VersionLog,
  details: VersionEntry['probes']['details'],
): Promise<CorrectionProbe[]> {
  return JSON.parse(new TextDecoder().decode(await log.blobs.get(details))) as CorrectionProbe[];
}

export function markOf({ entry, hash }: StoredEntry): VersionMark {
  const { version, createdAt, batchId, workflow, undo } = entry;
  return {
    version,
    hash,
    createdAt,
    batchId,
    workflow,
    undo:
      undo === undefined
        ? null
        : { id: undo.id, reason: undo.reason, requestedBy: undo.requestedBy },
  };
}

function recordOf({
  correctionId: _,
  row: __,
  ...record
}: AddedCorrection): NonNullable<Trace['correction']> {
  return record;
}

/** What the entry itself says, for a version that is not registered yet. */
function outcomeFrom({ entry }: StoredEntry, id: string): Outcome {
  const added = entry.added.find(({ correctionId }) => correctionId === id);
  const { factKey, position } =
    added ?? entry.retractions.find((retraction) => retraction.id === id)!;
  return {
    lineage: entry.lineage,
    revisionId: id,
    factKey,
    status: added === undefined ? 'RETRACTED' : 'COMMITTED',
    version: entry.version,
    reason: null,
    measured: {},
    position: position satisfies KafkaPosition,
    batchId: entry.batchId,
    decidedAt: Date.parse(entry.createdAt),
  };
}

/** The id that this one repeats, by the form that repetitions are given; null for none. */
function repeatedIn(id: string): string | null {
  const [, before, count] = /^(.+)~(\d{1,3})$/su.exec(id) ?? [];
  if (before === undefined || Number(count) < 2) return null;
  return Number(count) === 2 ? before : `${before}~${Number(count) - 1}`;
}
