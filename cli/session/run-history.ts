/**
 * The history of a run, from wherever it is: Temporal while it has it, else the archive beside the
 * versions.
 */
import type { DataConverter } from '@temporalio/common';
import type { Configuration } from '../../infra/config/configuration.ts';
import { historyLink } from '../words/history-link.ts';
import { temporalConverter, temporalLineages } from '../../infra/config/connections.ts';
import {
  historyOf,
  timelineOf,
  type TimelineStep,
} from '../../pipelines/temporal/history-timeline.ts';
import {
  TemporalRuns,
  jsonOfHistory,
  lineageOfWorkflow,
  workflowOfBatch,
  type WorkflowRun,
} from '../../pipelines/temporal/temporal-runs.ts';
import type { Versions } from '../../versions/versions.ts';
import { CommandFailure, failureOf } from './command-failure.ts';
import { EXIT } from '../terminal/exit-code.ts';

/** A run of a workflow; the latest where no run is named. */
export interface NamedRun {
  workflowId: string;
  runId: string | null;
}

export interface FoundRun {
  run: WorkflowRun;
  from: 'temporal' | 'archive';
  /** In Temporal's page; null where Temporal has it no more, or no page is known. */
  link: string | null;
  /** Runs of the workflow that are archived, this one included if it is. */
  archivedRuns: string[];
  /** JSON as Temporal's tools read it. */
  history: string;
  /** Why Temporal could not be asked; null where it was. */
  unasked: string | null;
}

const OPERATION = 'show the history';

/**
 * The run that `what` names: a version or `head`, a workflow's id, or a revision's id. Throws a
 * `CommandFailure` for what there is not.
 */
export async function namedRun(
  versions: Versions,
  lineage: string,
  what: string,
): Promise<NamedRun> {
  const log = versions.log(lineage);
  if (what === 'head' || /^\d+$/.test(what)) {
    const { head } = await log.read();
    const version = what === 'head' ? head.version : Number(what);
    if (version < 1 || version > head.version)
      throw new CommandFailure(
        OPERATION,
        version === 0
          ? 'version 0 is the base model, nothing made it'
          : `lineage ${lineage} has versions 1 to ${head.version}`,
        'errata log lists them.',
      );
    return (await log.entry(version)).entry.workflow;
  }
  const ofWorkflow = lineageOfWorkflow(what);
  if (ofWorkflow !== null) {
    if (ofWorkflow === lineage) return { workflowId: what, runId: null };
    throw new CommandFailure(
      OPERATION,
      `${what} is a workflow of lineage ${ofWorkflow}`,
      `Ask with --lineage ${ofWorkflow}.`,
      EXIT.usage,
    );
  }
  const outcome =
    (await log.registered.outcomesOf([what])).get(what) ??
    (await log.registered.outcomesOf([`retract:${what}`])).get(`retract:${what}`);
  if (outcome === undefined)
    throw new CommandFailure(
      OPERATION,
      `lineage ${lineage} never decided on "${what}"`,
      'Give a version, the id of a correction, or the id of a workflow such as edit-batch/<lineage>/<number>. What waits is told by `errata status`.',
    );
  if (outcome.version !== null && outcome.status !== 'DUPLICATE')
    return (await log.entry(outcome.version)).entry.workflow;
  const workflowId = workflowOfBatch(lineage, outcome.batchId);
  if (workflowId === null)
    throw new CommandFailure(
      OPERATION,
      `"${what}" was decided by ${outcome.batchId}, which is no batch of a workflow`,
    );
  return { workflowId, runId: null };
}

/** Throws a `CommandFailure` where neither Temporal nor the archive has it. */
export async function findRun(
  configuration: Configuration,
  versions: Versions,
  lineage: string,
  named: NamedRun,
): Promise<FoundRun> {
  const archive = versions.histories(lineage);
  const archivedRuns = await archive.runIds(named.workflowId);
  const { found, unasked } = await ofTemporal(configuration, named);
  if (found !== null)
    return {
      ...found,
      from: 'temporal',
      link: historyLink(configuration, found.run),
      archivedRuns,
      unasked,
    };
  const kept =
    named.runId === null
      ? await archive.latest(named.workflowId)
      : await archive.get({ workflowId: named.workflowId, runId: named.runId });
  if (kept === null) {
    const who =
      unasked === null
        ? 'neither Temporal nor the archive has'
        : 'the archive has not, and Temporal could not be asked for,';
    throw new CommandFailure(
      OPERATION,
      `${who} ${named.runId === null ? 'a run' : `run ${named.runId}`} of ${named.workflowId}`,
      unasked ??
        'It ended before histories were archived, or never began. ERRATA_ARCHIVE_HISTORIES keeps those that end from now on.',
    );
  }
  const { history, omitted, ...run } = kept;
  if (history === null)
    throw new CommandFailure(
      OPERATION,
      `the archive has run ${run.runId} of ${run.workflowId} without its history: ${omitted}`,
    );
  return { run, from: 'archive', link: null, archivedRuns, history, unasked };
}

export async function timelineOfRun(
  configuration: Configuration,
  { history }: FoundRun,
): Promise<TimelineStep[]> {
  const converter: DataConverter = temporalConverter(configuration);
  return await timelineOf(historyOf(history), converter);
}

async function ofTemporal(
  configuration: Configuration,
  { workflowId, runId }: NamedRun,
): Promise<{ found: { run: WorkflowRun; history: string } | null; unasked: string | null }> {
  if (configuration.temporal.address === '')
    return { found: null, unasked: 'Temporal does not run here; `errata up` starts it.' };
  const temporal = temporalLineages(configuration);
  try {
    const runs = new TemporalRuns(temporal.client);
    const described = await runs.describe(workflowId, runId ?? undefined);
    const history = described === null ? null : await runs.history(workflowId, described.run.runId);
    return {
      found:
        described === null || history === null
          ? null
          : { run: described.run, history: jsonOfHistory(history) },
      unasked: null,
    };
  } catch (error) {
    const { why, mend } = failureOf('', temporal.explained(error));
    return { found: null, unasked: mend === null ? why : `${why}. ${mend}` };
  } finally {
    await temporal.close();
  }
}
