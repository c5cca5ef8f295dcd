/** The request, the context and the report of a rebuild. */
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import type { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { CorrectionRevision } from '../../schemas/correction.ts';
import type { OutcomeStatus } from '../../schemas/outcome.ts';
import type { Provenance } from '../../schemas/editing.ts';
import { ErrataFailure } from '../../schemas/failures.ts';
import type { LineageSettings } from '../../schemas/settings.ts';
import type { WorkflowRun } from '../../schemas/steps.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { Versions } from '../../versions/versions.ts';
import { sameParameters, type RebuildEngines } from './rebuild-engines.ts';
import type { LineageReproduction } from './reproduction.ts';

export interface RebuildRequest {
  lineage: string;
  as: string;
  from: 'log' | 'kafka';
  /** The last version of the lineage to rebuild; null: HEAD. */
  to: number | null;
  /** Whether another base or other hyper-parameters were requested. */
  fork: boolean;
  settings: LineageSettings;
}

export interface RebuildSurroundings {
  versions: Versions;
  engines: RebuildEngines;
  /** Called if records are to be read; null: without Kafka. */
  kafka: (() => { cluster: KafkaCluster; format: RecordFormat }) | null;
  progress(label: string, done: number, of: number | null): void;
  /** Called between versions. */
  stopped(): boolean;
}

export type RebuildKind = 'reproduction' | 'fork' | 'from-records';

export interface RecordDifference {
  id: string;
  /** `<topic>-<partition>@<offset>`. */
  record: string;
  what: string;
}

/** The comparison of Kafka's records with the log. */
export interface CheckedRecords {
  /** Number of records that the log names. */
  records: number;
  same: number;
  /** Number of records no longer in Kafka; the log's text replaces them. */
  gone: number;
  /** The first records no longer in Kafka. */
  goneExamples: string[];
  differences: RecordDifference[];
}

export interface Rebuilt {
  lineage: string;
  as: string;
  kind: RebuildKind;
  /** HEAD of the rebuilt lineage, before and after. */
  began: number;
  head: number;
  /** Versions of the source, or batches of records: to be made, and made. */
  due: number;
  done: number;
  interrupted: boolean;
  /** The version of the source that could not be made again, with the reasons. */
  stopped: { version: number; reasons: string[] } | null;
  words: CheckedRecords | null;
  records: { read: number; gone: string; dead: number } | null;
  /** Null unless it is a reproduction. */
  reproduction: LineageReproduction | null;
  /** Corrections that were refused here, although they hold in the source or are in the records. */
  refused: { id: string; status: OutcomeStatus; reason: string | null }[];
  seconds: number;
}

/** The rebuild cannot begin or go on. Nothing was written after the fault. */
export class RebuildRefused extends ErrataFailure {
  override readonly name = 'RebuildRefused';
  constructor(message: string, hint: string) {
    super(message, {}, hint);
  }
}

/** Refused corrections that a report lists. */
export const REFUSED_MAX = 1_000;

export class RebuildRun {
  readonly source: VersionLog;
  readonly rebuilt: VersionLog;
  readonly result: Rebuilt;
  /** Returns the revision with Kafka's text if the record differs from the log. */
  revised: <Revision extends CorrectionRevision>(revision: Revision) => Revision = (revision) =>
    revision;

  constructor(
    readonly request: RebuildRequest,
    readonly around: RebuildSurroundings,
  ) {
    this.source = around.versions.log(request.lineage);
    this.rebuilt = around.versions.log(request.as);
    this.result = {
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

  /** Reports the progress and tells whether to stop. */
  isStopped(done: number, of: number): boolean {
    this.around.progress('rebuilding', done, of);
    return (this.result.interrupted = this.around.stopped());
  }

  /** Throws `RebuildRefused` if the lineage to be written has versions of another origin. */
  async requireOwn(isOwn: (version: number, runId: string) => Promise<boolean>): Promise<void> {
    const { workflowId } = rebuiltBy(this.source.lineage, '');
    for (let version = 1; version <= this.result.began; version++) {
      const { workflow } = (await this.rebuilt.entry(version)).entry;
      if (workflow.workflowId === workflowId && (await isOwn(version, workflow.runId))) continue;
      throw new RebuildRefused(
        `lineage ${this.rebuilt.lineage} exists, and its version ${version} was not made by ` +
          `a rebuild of ${this.source.lineage} like this one`,
        'Name another lineage with --as.',
      );
    }
  }

  /** Throws `RebuildRefused` if the rebuilt lineage was begun with another model. */
  async requireMadeWith({ base, parameters }: Provenance): Promise<void> {
    const latest = (await this.rebuilt.read()).latest?.entry;
    if (
      latest !== undefined &&
      (latest.base.sha256 !== base.sha256 || !sameParameters(latest.parameters, parameters))
    )
      throw new RebuildRefused(
        `lineage ${this.rebuilt.lineage} was begun with another model or other hyper-parameters`,
        'Go on with those, or name another lineage with --as.',
      );
  }
}

/**
 * Names the maker of a rebuilt version: instead of a workflow and its run, the lineage and the hash
 * of the entry that it repeats.
 */
export function rebuiltBy(lineage: string, hash: string): WorkflowRun {
  return { workflowId: `rebuild/${lineage}`, runId: hash };
}
