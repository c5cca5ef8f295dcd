/**
 * A lineage rebuilt by this process alone, version by version, as a lineage of its own in the same
 * version log. The state of a rebuild is the log of the new lineage: killed, it goes on from there.
 *
 * On the same base and with the same hyper-parameters each version is made again as it was
 * (`reproduced-version.ts`). With others it is a fork: the same revisions are edited anew and the
 * verdict decides. Where the log is lost, the revisions come from the records of the topic.
 */
import {
  revisionId,
  type CorrectionRevision,
  type FactRevision,
} from '../../schemas/correction.ts';
import type { HyperParameters, Outcome, OutcomeStatus } from '../../schemas/editing.ts';
import { ErrataFailure } from '../../schemas/failures.ts';
import type { LineageSettings } from '../../schemas/settings.ts';
import type { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import { readRecord } from '../../pipelines/ingest/ingest-record.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import { batchIdOf } from '../../pipelines/batch/batch-id.ts';
import { BlobMissing, VersionLogDamaged } from '../../versions/log/failures.ts';
import type { StoredEntry } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { Versions } from '../../versions/versions.ts';
import { editBatchHere } from './edited-batch.ts';
import { checkWords, lineageOf, type CheckedWords } from './kafka-words.ts';
import {
  rebuiltBy,
  reproduceVersion,
  type KnownTargets,
  type Reproduced,
} from './reproduced-version.ts';
import { compareVersions, type LineageReproduction } from './reproduction.ts';
import { addedRevisions, distinct, retractionsOf, searchesOf } from './source-words.ts';
import { spoolRecords } from './spooled-records.ts';
import { undoAgain } from './undone-version.ts';
import { sameParameters, type Workplace, type Workplaces } from './workplace.ts';

export interface RebuildRequest {
  lineage: string;
  as: string;
  from: 'log' | 'kafka';
  /** Up to this version of the lineage; null: HEAD. */
  to: number | null;
  /** Another base or other hyper-parameters were asked for. */
  fork: boolean;
  settings: LineageSettings;
}

export interface RebuildSurroundings {
  versions: Versions;
  workplaces: Workplaces;
  /** Asked where the words are Kafka's. */
  kafka: (() => { cluster: KafkaCluster; format: RecordFormat }) | null;
  /** Versions or records done, of so many. */
  progress(label: string, done: number, of: number | null): void;
  /** Asked between versions; true: stop here. */
  stopped(): boolean;
}

export interface RefusedHere {
  id: string;
  status: OutcomeStatus;
  reason: string | null;
}

export interface Rebuilt {
  lineage: string;
  as: string;
  kind: 'reproduction' | 'fork' | 'from-records';
  /** HEAD of the rebuilt lineage before and after. */
  began: number;
  head: number;
  /** Versions of the source, or batches of records, that were due and that were done. */
  due: number;
  done: number;
  interrupted: boolean;
  /** The version of the source that could not be made again, and why. */
  stopped: { version: number; reasons: string[] } | null;
  words: Omit<CheckedWords, 'reword'> | null;
  records: { read: number; gone: string; dead: number } | null;
  /** Of a reproduction. */
  reproduction: LineageReproduction | null;
  /** Corrections that hold in the source, or stood in the records, and were not taken here. */
  refused: RefusedHere[];
  seconds: number;
}

/** The rebuild cannot begin, or go on: nothing was written since. */
export class RebuildRefused extends ErrataFailure {
  override readonly name = 'RebuildRefused';
  constructor(message: string, hint: string) {
    super(message, {}, hint);
  }
}

/**
 * What the source no longer has ends a rebuild that was asked for anyway, with what could be made
 * before it.
 */
function unreadable(fault: unknown): Reproduced {
  if (fault instanceof VersionLogDamaged || fault instanceof BlobMissing)
    return { kind: 'refused', reasons: [fault.message] };
  throw fault;
}

/** Refused corrections named in a report. */
const REFUSED_MAX = 1_000;

export async function rebuildLineage(
  request: RebuildRequest,
  around: RebuildSurroundings,
): Promise<Rebuilt> {
  return await new Rebuild(request, around).run();
}

/** The version up to which the source can be rebuilt: what was asked for, or its last sound one. */
export async function dueVersions(source: VersionLog, to: number | null): Promise<number> {
  const { history } = await source.readSound();
  if (to !== null && to > history.head.version)
    throw new RebuildRefused(
      `lineage ${source.lineage} has versions up to ${history.head.version}, not ${to}`,
      '`errata log` lists them.',
    );
  return to ?? history.head.version;
}

class Rebuild {
  readonly #request: RebuildRequest;
  readonly #around: RebuildSurroundings;
  readonly #source: VersionLog;
  readonly #rebuilt: VersionLog;
  readonly #result: Rebuilt;
  #reword: CheckedWords['reword'] = (revision) => revision;
  #staged: string | null = null;

  constructor(request: RebuildRequest, around: RebuildSurroundings) {
    this.#request = request;
    this.#around = around;
    this.#source = around.versions.log(request.lineage);
    this.#rebuilt = around.versions.log(request.as);
    this.#result = {
      lineage: request.lineage,
      as: request.as,
      kind: 'reproduction',
      began: 0,
      head: 0,
      due: 0,
      done: 0,
      interrupted: false,
      stopped: null,
      words: null,
      records: null,
      reproduction: null,
      refused: [],
      seconds: 0,
    };
  }

  async run(): Promise<Rebuilt> {
    const began = performance.now();
    const result = this.#result;
    if (this.#request.lineage === this.#request.as)
      throw new RebuildRefused(
        `lineage ${this.#request.as} is the one that is to be rebuilt`,
        'Name a new one with --as: nothing that is written is ever changed.',
      );
    result.due = await dueVersions(this.#source, this.#request.to);
    result.began = (await this.#rebuilt.read()).head.version;
    if (result.due === 0) await this.#fromRecords();
    else {
      if (this.#request.from === 'kafka') await this.#checkWords();
      if (this.#request.fork && !(await this.#isSameAgain())) await this.#fork();
      else await this.#reproduce();
    }
    if (this.#staged !== null) await this.#rebuilt.blobs.discardStaged(this.#staged);
    result.head = (await this.#rebuilt.read()).head.version;
    if (result.kind === 'reproduction')
      result.reproduction = await compareVersions(
        this.#source,
        this.#rebuilt,
        result.due,
        (version) => this.#around.progress('comparing the versions', version, result.due),
      );
    result.seconds = (performance.now() - began) / 1_000;
    return result;
  }

  async #checkWords(): Promise<void> {
    const { cluster, format } = this.#around.kafka!();
    this.#around.progress('reading the records', 0, null);
    const { reword, ...words } = await checkWords(
      cluster,
      format,
      this.#source,
      this.#source.walk(),
      this.#result.due,
    );
    this.#result.words = words;
    this.#reword = reword;
  }

  /** A fork that was asked for with what the lineage was made with is none. */
  async #isSameAgain(): Promise<boolean> {
    const { base, parameters } = (await this.#source.entry(this.#result.due)).entry;
    const { madeWith } = await this.#around.workplaces.with(null);
    return madeWith.base.sha256 === base.sha256 && sameParameters(madeWith.parameters, parameters);
  }

  async #reproduce(): Promise<void> {
    const result = this.#result;
    await this.#requireOwn(
      async (version, runId) =>
        version > result.due || runId === (await this.#source.entry(version)).hash,
    );
    result.done = Math.min(result.began, result.due);
    const known: KnownTargets = new Map();
    for (let version = result.done + 1; version <= result.due; version++) {
      this.#around.progress('rebuilding', version - 1, result.due);
      if ((result.interrupted = this.#around.stopped())) return;
      const stored = await this.#source.entry(version);
      const place = await this.#placeOf(stored);
      await this.#stagesFor(stored.entry.batchId, known);
      const context = {
        source: this.#source,
        rebuilt: this.#rebuilt,
        verdict: this.#request.settings.verdict,
        reword: this.#reword,
      };
      const made = await (
        stored.entry.undo === undefined
          ? reproduceVersion(place, stored, known, context)
          : undoAgain(place, stored, context).then(({ result: undone }) => undone)
      ).catch(unreadable);
      if (made.kind !== 'made') {
        result.stopped = {
          version,
          reasons: made.kind === 'refused' ? made.reasons : ['nothing of what it undid is there'],
        };
        return;
      }
      await this.#carryRefusals(stored);
      result.done = version;
    }
    this.#around.progress('rebuilding', result.due, result.due);
  }

  /** The model with the hyper-parameters that made the version. */
  async #placeOf({ entry }: StoredEntry): Promise<Workplace> {
    const place = await this.#around.workplaces.with(
      entry.parameters as unknown as HyperParameters,
    );
    const { base, parameters } = place.madeWith;
    if (base.sha256 !== entry.base.sha256) {
      throw new RebuildRefused(
        `version ${entry.version} was made with ${entry.base.name} (${entry.base.sha256.slice(0, 12)}), the model here is ${base.name} (${base.sha256.slice(0, 12)})`,
        'Set ERRATA_MODEL to the model that it was made with; or name the other one with --model, and a fork is made on it.',
      );
    }
    if (!sameParameters(parameters, entry.parameters)) {
      throw new RebuildRefused(
        `version ${entry.version} was made with hyper-parameters that this version of Errata does not take as they are`,
        'Give hyper-parameters with --hyper-parameters, and a fork is made with them.',
      );
    }
    return place;
  }

  async #fork(): Promise<void> {
    const result = this.#result;
    result.kind = 'fork';
    const place = await this.#around.workplaces.with(null);
    const sources = new Set<string>();
    for (let version = 1; version <= result.due; version++)
      sources.add((await this.#source.entry(version)).hash);
    await this.#requireOwn(async (_, runId) => sources.has(runId));
    await this.#requireMadeWith(place);
    for (let version = 1; version <= result.due; version++) {
      this.#around.progress('rebuilding', version - 1, result.due);
      if ((result.interrupted = this.#around.stopped())) return;
      const stored = await this.#source.entry(version);
      await this.#forkVersion(place, stored);
      result.done = version;
    }
    this.#around.progress('rebuilding', result.due, result.due);
    await this.#tellMissing();
  }

  /**
   * Everything that the version was asked for once more: what was refused then may be taken by
   * another model.
   */
  async #forkVersion(place: Workplace, stored: StoredEntry): Promise<void> {
    const { entry, hash } = stored;
    const register = await this.#rebuilt.register();
    if ((await register.versionOfBatch(entry.batchId)) !== null) return;
    if (entry.undo !== undefined) {
      const { result } = await undoAgain(place, stored, {
        source: this.#source,
        rebuilt: this.#rebuilt,
        verdict: this.#request.settings.verdict,
        reword: this.#reword,
      });
      await this.#rebuilt.blobs.discardStaged(entry.batchId.split('.')[0]!);
      if (result.kind === 'refused')
        throw new RebuildRefused(
          `the undo of version ${entry.version} is refused here: ${result.reasons.join('; ')}`,
          'Look at the thresholds of the verdict (docs/configuration.md).',
        );
      return;
    }
    const searched = ((await searchesOf(this.#source, entry)) ?? []).flatMap(
      ({ search }) => search.edits,
    );
    const revisions: FactRevision[] = distinct<FactRevision>([
      ...searched.map(this.#reword),
      ...addedRevisions(entry).map(this.#reword),
      ...retractionsOf(entry),
    ]);
    const decided = await register.outcomesOf(revisions.map(revisionId));
    const undecided = revisions.filter((revision) => !decided.has(revisionId(revision)));
    const { verdict, batch } = this.#request.settings;
    await editBatchHere(place, this.#rebuilt, {
      batchId: entry.batchId,
      revisions: undecided,
      verdict,
      shardEditsMax: batch.shardEditsMax,
      workflow: rebuiltBy(this.#source.lineage, hash),
    });
  }

  async #fromRecords(): Promise<void> {
    const { lineage, from, to, settings } = this.#request;
    const result = this.#result;
    if (from !== 'kafka')
      throw new RebuildRefused(
        `lineage ${lineage} has no versions`,
        `If its log is lost, it can be rebuilt from the records of ${topicsOf(lineage).corrections} with --from kafka.`,
      );
    if (to !== null)
      throw new RebuildRefused(
        `lineage ${lineage} has no versions, so there is none up to which it can be rebuilt`,
        'Leave --to out.',
      );
    result.kind = 'from-records';
    const { cluster, format } = this.#around.kafka!();
    const topic = topicsOf(lineage).corrections;
    const spooled = await spoolRecords(cluster, topic, (records) =>
      this.#around.progress('reading the records', records, null),
    );
    if (spooled === null || spooled.count === 0) {
      await spooled?.close();
      throw new RebuildRefused(
        `${topic} holds no records`,
        'Is it the lineage that was meant, and the cluster (ERRATA_KAFKA_BROKERS)?',
      );
    }
    try {
      const place = await this.#around.workplaces.with(null);
      const runId = `records of ${topic}`;
      await this.#requireOwn(async (_, run) => run === runId);
      await this.#requireMadeWith(place);
      result.records = { read: spooled.count, gone: String(spooled.gone), dead: 0 };
      let sequence = 0;
      let read = 0;
      let revisions: FactRevision[] = [];
      const edit = async (): Promise<void> => {
        const batch = {
          batchId: batchIdOf(sequence++, revisions),
          revisions,
          verdict: settings.verdict,
          shardEditsMax: settings.batch.shardEditsMax,
          workflow: { workflowId: rebuiltBy(lineage, '').workflowId, runId },
        };
        const { outcomes } = await editBatchHere(place, this.#rebuilt, batch);
        outcomes.forEach((outcome) => this.#tell(outcome));
        result.due += 1;
        result.done += 1;
        revisions = [];
      };
      for await (const record of spooled.inOrder()) {
        if ((result.interrupted = this.#around.stopped())) return;
        const decoder = await format.decoder('fact-correction', [record.value]);
        const one = readRecord(record, lineageOf(topic), decoder);
        if (one.kind === 'dead') result.records.dead += 1;
        else revisions.push(one.revision);
        if (revisions.length >= settings.batch.batchEditsMax) await edit();
        this.#around.progress('rebuilding', (read += 1), spooled.count);
      }
      if (revisions.length > 0) await edit();
    } finally {
      await spooled.close();
    }
  }

  /** Of a fork: what holds in the source at the end, and does not hold here. */
  async #tellMissing(): Promise<void> {
    const [source, { active }] = [
      await this.#source.at(this.#result.due),
      await this.#rebuilt.read(),
    ];
    const missing = [...source.active.keys()].filter((id) => !active.has(id));
    const outcomes = await (await this.#rebuilt.register()).outcomesOf(missing);
    for (const id of missing.slice(0, REFUSED_MAX))
      this.#result.refused.push({
        id,
        status: outcomes.get(id)?.status ?? 'QUARANTINED',
        reason: outcomes.get(id)?.reason ?? null,
      });
  }

  #tell({ revisionId: id, status, reason }: Outcome): void {
    if (status === 'QUARANTINED' && this.#result.refused.length < REFUSED_MAX)
      this.#result.refused.push({ id, status, reason });
  }

  /**
   * What was refused beside the version is remembered as refused, so that its ids are decided in
   * the rebuilt lineage too.
   */
  async #carryRefusals({ entry }: StoredEntry): Promise<void> {
    const added = new Set(entry.added.map(({ correctionId }) => correctionId));
    const beside = ((await searchesOf(this.#source, entry)) ?? [])
      .flatMap(({ search }) => search.edits)
      .map((edit: CorrectionRevision) => revisionId(edit))
      .filter((id) => !added.has(id));
    if (beside.length === 0) return;
    const outcomes = await this.#source.registered.outcomesOf(beside);
    const refused = [...outcomes.values()]
      .filter(({ status }) => status === 'QUARANTINED')
      .map((outcome) => ({ ...outcome, lineage: this.#rebuilt.lineage }));
    await (await this.#rebuilt.register()).settle(refused);
  }

  /**
   * What batches before this one staged is thrown away; parts of one batch share what was found.
   */
  async #stagesFor(batchId: string, known: KnownTargets): Promise<void> {
    const folder = batchId.split('.')[0]!;
    if (this.#staged === folder) return;
    if (this.#staged !== null) await this.#rebuilt.blobs.discardStaged(this.#staged);
    known.clear();
    this.#staged = folder;
  }

  /** Throws where the lineage that is to be written has versions of somebody else's. */
  async #requireOwn(isOwn: (version: number, runId: string) => Promise<boolean>): Promise<void> {
    const { workflowId } = rebuiltBy(this.#source.lineage, '');
    for (let version = 1; version <= this.#result.began; version++) {
      const { workflow } = (await this.#rebuilt.entry(version)).entry;
      if (workflow.workflowId !== workflowId || !(await isOwn(version, workflow.runId))) {
        throw new RebuildRefused(
          `lineage ${this.#rebuilt.lineage} exists, and its version ${version} is not one that a rebuild of ${this.#source.lineage} like this one makes`,
          'Name another lineage with --as.',
        );
      }
    }
  }

  async #requireMadeWith({ madeWith }: Workplace): Promise<void> {
    const { latest } = await this.#rebuilt.read();
    if (latest === null) return;
    const { base, parameters } = latest.entry;
    if (base.sha256 !== madeWith.base.sha256 || !sameParameters(parameters, madeWith.parameters)) {
      throw new RebuildRefused(
        `lineage ${this.#rebuilt.lineage} was begun with another model or other hyper-parameters`,
        'Go on with those, or name another lineage with --as.',
      );
    }
  }
}
