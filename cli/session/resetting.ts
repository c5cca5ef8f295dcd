/**
 * What `errata replay batch` and `errata replay lineage` share: the points of a run, what a reset
 * would do, and the reset.
 */
import { temporalConverter } from '../../infra/config/connections.ts';
import type { Configuration } from '../../infra/config/configuration.ts';
import { timelineOf, type TimelineStep } from '../../pipelines/temporal/history-timeline.ts';
import type { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { TemporalRuns, type WorkflowRun } from '../../pipelines/temporal/temporal-runs.ts';
import {
  followRun,
  resetPointNamed,
  resetPointsOf,
  resetWorkflow,
  RESET_STEPS,
  type ResetPoint,
  type RunEnd,
} from '../../pipelines/temporal/workflow-reset.ts';
import { CommandFailure } from './command-failure.ts';
import { EXIT } from '../terminal/exit-code.ts';
import type { Output } from '../terminal/output.ts';

export interface PlannedReset {
  run: WorkflowRun;
  points: ResetPoint[];
  point: ResetPoint;
  /** Activities, children and timers that were begun after the point, each as often as it was. */
  again: { name: string; times: number }[];
  /** Versions that were committed after it: they stand, and are found to be made. */
  committed: number[];
  /** Signals and updates that came after it, and come again. */
  reapplied: number;
}

/** Throws a `CommandFailure` where there is no such run, or no such point in it. */
export async function planReset(
  lineages: TemporalLineages,
  configuration: Configuration,
  named: { workflowId: string; runId: string | null },
  to: string,
): Promise<PlannedReset> {
  const runs = new TemporalRuns(lineages.client);
  try {
    const described = await runs.describe(named.workflowId, named.runId ?? undefined);
    const history =
      described === null ? null : await runs.history(named.workflowId, described.run.runId);
    if (described === null || history === null) {
      throw new CommandFailure(
        'reset the workflow',
        `Temporal has no ${named.runId === null ? 'run' : `run ${named.runId}`} of ${named.workflowId}`,
        'A run that Temporal has forgotten cannot be reset; `errata history` shows it, and `errata replay quarantined --batch` sends what it quarantined again.',
        EXIT.usage,
      );
    }
    const points = resetPointsOf(history);
    const point = resetPointNamed(points, to);
    if (point === null) {
      throw new CommandFailure(
        'reset the workflow',
        points.length === 0
          ? `${named.workflowId} never came to decide anything`
          : `${named.workflowId} has no point "${to}"`,
        points.length === 0
          ? 'Is a workflow worker running? `errata status` says.'
          : `The points are ${points
              .map(({ eventId }) => eventId)
              .slice(0, POINTS_NAMED_MAX)
              .join(
                ', ',
              )} (--dry-run says what each does), or one of ${Object.keys(RESET_STEPS).join(', ')} where it was done; --run names an earlier run.`,
        EXIT.usage,
      );
    }
    const timeline = await timelineOf(history, temporalConverter(configuration));
    const after = timeline.filter(({ eventId }) => eventId > point.eventId);
    return {
      run: described.run,
      points,
      point,
      again: counted(
        after.filter(({ event }) => ['activity', 'child workflow', 'timer'].includes(event)),
      ),
      committed: after.flatMap(committedIn),
      reapplied: after.filter(({ event }) => event === 'signal' || event === 'update').length,
    };
  } catch (error) {
    throw lineages.explained(error);
  }
}

const POINTS_NAMED_MAX = 30;

export async function reset(
  lineages: TemporalLineages,
  { run, point }: PlannedReset,
  reason: string,
): Promise<string> {
  try {
    return await resetWorkflow(lineages.client, run, point, reason);
  } catch (error) {
    throw lineages.explained(error);
  }
}

export async function followed(
  lineages: TemporalLineages,
  run: { workflowId: string; runId: string },
  timeoutSeconds: number,
): Promise<RunEnd> {
  try {
    return await followRun(lineages.client, run, timeoutSeconds * 1_000);
  } catch (error) {
    throw lineages.explained(error);
  }
}

export function resetText(
  { run, points, point, again, committed, reapplied }: PlannedReset,
  output: Output,
): string {
  const { bold, dim, green } = output.colours;
  const shown = points.length > POINTS_SHOWN_MAX ? points.slice(-POINTS_SHOWN_MAX) : points;
  return [
    `${bold(run.workflowId)}  ${run.status.toLowerCase().replaceAll('_', ' ')}  ${dim(run.runId)}`,
    ...(shown.length < points.length
      ? [dim(`  ${points.length - shown.length} earlier points; --json names them`)]
      : []),
    ...shown.map(
      (one) =>
        `  ${one === point ? green('→') : ' '} ${String(one.eventId).padStart(5)}  ${new Date(one.at).toISOString()}  ${
          one.does.length === 0
            ? dim('nothing')
            : counted(one.does.map((name) => ({ name })))
                .map(timesWords)
                .join(', ')
        }`,
    ),
    `Run again from event ${point.eventId}: ${again.length === 0 ? 'what was not done yet' : again.map(timesWords).join(', ')}.`,
    ...(reapplied === 0
      ? []
      : [
          `${reapplied} signal${reapplied === 1 ? ' or update' : 's and updates'} that came since ${reapplied === 1 ? 'comes' : 'come'} again.`,
        ]),
    ...(committed.length === 0
      ? ['Nothing that is run again has made a version.']
      : [
          `Made since, and found to be made: version ${committed.join(', ')}. Nothing is applied twice.`,
        ]),
  ].join('\n');
}

const POINTS_SHOWN_MAX = 40;

function counted(items: readonly { name: string | null }[]): { name: string; times: number }[] {
  const times = new Map<string, number>();
  for (const { name } of items)
    times.set(name ?? 'a timer', (times.get(name ?? 'a timer') ?? 0) + 1);
  return [...times].map(([name, count]) => ({ name, times: count }));
}

function timesWords({ name, times }: { name: string; times: number }): string {
  return times === 1 ? name : `${name} × ${times}`;
}

function committedIn({ name, detail }: TimelineStep): number[] {
  if (name !== 'commitVersion' && name !== 'commitUndo') return [];
  const result = detail as { kind?: unknown; version?: unknown } | null;
  return result?.kind === 'committed' && typeof result.version === 'number' ? [result.version] : [];
}
