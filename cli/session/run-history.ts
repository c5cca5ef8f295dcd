/** The history of a workflow run, from Temporal or else from the archive beside the versions. */
import type { Configuration } from '../../infra/config/configuration.ts';
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
import type { VersionLog } from '../../versions/log/version-log.ts';
import { committedVersion } from '../input/option-values.ts';
import { failed, misused, reasonOf } from '../terminal/command-failure.ts';
import type { Opened } from './session.ts';

/** A workflow run; the latest if none is named. */
export interface NamedRun {
  workflowId: string;
  runId: string | null;
}

export interface FoundRun {
  run: WorkflowRun;
  from: 'temporal' | 'archive';
  archivedRuns: string[];
  /** JSON as Temporal's tools read it. */
  history: string;
  /** Why Temporal could not be asked; null if it answered. */
  unasked: string | null;
}

/** Finds the run that made a version or decided a revision, or the latest run of a workflow. */
export async function namedRun(log: VersionLog, name: string): Promise<NamedRun> {
  const { lineage } = log;
  if (name === 'head' || /^\d+$/.test(name)) {
    const { head } = await log.read();
    return (await log.entry(committedVersion(name, lineage, head.version))).entry.workflow;
  }
  const lineageOfName = lineageOfWorkflow(name);
  if (lineageOfName === lineage) return { workflowId: name, runId: null };
  if (lineageOfName !== null)
    throw misused(
      `${name} is a workflow of lineage ${lineageOfName}`,
      `Ask with --lineage ${lineageOfName}.`,
    );
  const ids = [name, `retract:${name}`];
  const outcomes = await log.registered.outcomesOf(ids);
  const outcome = ids.map((id) => outcomes.get(id)).find((one) => one !== undefined);
  if (outcome === undefined)
    throw failed(
      `lineage ${lineage} never decided on "${name}"`,
      'Give a version, the id of a correction, or a workflow such as edit-batch/<lineage>/12. ' +
        '`errata status` shows what waits.',
    );
  if (outcome.version !== null && outcome.status !== 'DUPLICATE')
    return (await log.entry(outcome.version)).entry.workflow;
  const workflowId = workflowOfBatch(lineage, outcome.batchId);
  if (workflowId !== null) return { workflowId, runId: null };
  throw failed(`"${name}" was decided by ${outcome.batchId}, which no workflow ran`);
}

/** Throws `CommandFailure` if neither Temporal nor the archive has the run. */
export async function findRun(
  { configuration, versions, lineage }: Pick<Opened, 'configuration' | 'versions' | 'lineage'>,
  named: NamedRun,
): Promise<FoundRun> {
  const archive = versions.histories(lineage);
  const archivedRuns = await archive.runIds(named.workflowId);
  const { found, unasked } = await askTemporal(configuration, named);
  if (found !== null) return { ...found, from: 'temporal', archivedRuns, unasked };
  const { workflowId, runId } = named;
  const kept =
    runId === null ? await archive.latest(workflowId) : await archive.get({ workflowId, runId });
  if (kept === null) {
    const where =
      unasked === null
        ? 'neither Temporal nor the archive has'
        : 'Temporal does not answer, and the archive does not have';
    throw failed(
      `${where} ${runId === null ? 'a run' : `run ${runId}`} of ${workflowId}`,
      unasked ??
        'It ended before histories were archived, or never began. With ' +
          'ERRATA_ARCHIVE_HISTORIES, histories are archived from now on.',
    );
  }
  const { history, omitted, ...run } = kept;
  if (history !== null) return { run, from: 'archive', archivedRuns, history, unasked };
  throw failed(
    `the archive has run ${run.runId} of ${run.workflowId} without its history: ${omitted}`,
  );
}

export async function timelineOfRun(
  configuration: Configuration,
  { history }: FoundRun,
): Promise<TimelineStep[]> {
  return await timelineOf(historyOf(history), temporalConverter(configuration));
}

async function askTemporal(
  configuration: Configuration,
  { workflowId, runId }: NamedRun,
): Promise<{ found: { run: WorkflowRun; history: string } | null; unasked: string | null }> {
  if (configuration.temporal.address === '')
    return { found: null, unasked: 'Temporal does not run here; `errata up` starts it.' };
  const temporal = temporalLineages(configuration);
  try {
    const runs = new TemporalRuns(temporal.client);
    const run = (await runs.describe(workflowId, runId ?? undefined))?.run;
    const history = run === undefined ? null : await runs.history(workflowId, run.runId);
    if (run === undefined || history === null) return { found: null, unasked: null };
    return { found: { run, history: jsonOfHistory(history) }, unasked: null };
  } catch (error) {
    return { found: null, unasked: reasonOf(temporal.explained(error)) };
  } finally {
    await temporal.close();
  }
}
