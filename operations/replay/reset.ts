/**
 * Replays a workflow by resetting its run to a point of its history. Results before the point are
 * kept; later steps run again.
 */
import type { DataConverter } from '@temporalio/common';
import { timelineOf, type TimelineStep } from '../../pipelines/temporal/history-timeline.ts';
import type { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { TemporalRuns } from '../../pipelines/temporal/temporal-runs.ts';
import {
  followRun,
  resetPointNamed,
  resetPointsOf,
  resetWorkflow,
  RESET_STEPS,
  type ResetPoint,
  type RunEnd,
} from '../../pipelines/temporal/workflow-reset.ts';
import { OperationRefused } from '../operation-refused.ts';

export type PlannedReset = Awaited<ReturnType<typeof planReset>>;

const POINTS_NAMED_MAX = 30;

/** Plans a reset. Throws `OperationRefused` for an unknown run, or an unknown point in it. */
export async function planReset(
  { lineages, dataConverter }: { lineages: TemporalLineages; dataConverter: DataConverter },
  { workflowId, runId }: { workflowId: string; runId: string | null },
  to: string,
) {
  return await explained(lineages, async () => {
    const runs = new TemporalRuns(lineages.client);
    const run = (await runs.describe(workflowId, runId ?? undefined))?.run;
    const history = run && (await runs.history(workflowId, run.runId));
    if (!run || !history)
      throw new OperationRefused(
        `Temporal has no ${runId === null ? 'run' : `run ${runId}`} of ${workflowId}`,
        'A run that Temporal has forgotten cannot be reset. `errata history` shows it, and ' +
          '`errata resubmit quarantined --batch` sends again what it quarantined.',
      );
    const points = resetPointsOf(history);
    const point = resetPointNamed(points, to);
    if (point === null) throw noSuchPoint(workflowId, to, points);
    const timeline = await timelineOf(history, dataConverter);
    const after = timeline.filter(({ eventId }) => eventId > point.eventId);
    const begun = after.filter(({ event }) =>
      ['activity', 'child workflow', 'timer'].includes(event),
    );
    return {
      run,
      points,
      point,
      /** Activities, children and timers begun after the point, with the number of each. */
      again: countedNames(begun.map(({ name }) => name ?? 'a timer')),
      /** Versions committed after the point; they stay, and the new run finds them. */
      committed: after.flatMap(committedIn),
      /** Signals and updates received after the point, which the new run receives again. */
      reapplied: after.filter(({ event }) => event === 'signal' || event === 'update').length,
    };
  });
}

function noSuchPoint(
  workflowId: string,
  to: string,
  points: readonly ResetPoint[],
): OperationRefused {
  if (points.length === 0)
    return new OperationRefused(
      `${workflowId} has not decided anything yet`,
      'Is a workflow worker running? `errata status` says.',
    );
  const named = points.slice(0, POINTS_NAMED_MAX).map(({ eventId }) => eventId);
  return new OperationRefused(
    `${workflowId} has no point "${to}"`,
    `The points are ${named.join(', ')} (--dry-run says what each does), or one of ` +
      `${Object.keys(RESET_STEPS).join(', ')} where it was done; --run names an earlier run.`,
  );
}

/** Resets the run and returns the id of the new one. */
export async function resetRun(
  lineages: TemporalLineages,
  { run, point }: PlannedReset,
  reason: string,
): Promise<string> {
  return await explained(lineages, () => resetWorkflow(lineages.client, run, point, reason));
}

/** Waits for the end of a run, for at most `timeoutSeconds`. */
export async function runEnd(
  lineages: TemporalLineages,
  run: { workflowId: string; runId: string },
  timeoutSeconds: number,
): Promise<RunEnd> {
  return await explained(lineages, () => followRun(lineages.client, run, timeoutSeconds * 1_000));
}

async function explained<T>(lineages: TemporalLineages, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw lineages.explained(error);
  }
}

/** Counts equal names, in order of first occurrence. */
export function countedNames(names: readonly string[]): { name: string; times: number }[] {
  const times = new Map<string, number>();
  for (const name of names) times.set(name, (times.get(name) ?? 0) + 1);
  return [...times].map(([name, count]) => ({ name, times: count }));
}

function committedIn({ name, detail }: TimelineStep): number[] {
  if (name !== 'commitVersion' && name !== 'commitUndo') return [];
  const result = detail as { kind?: unknown; version?: unknown } | null;
  return result?.kind === 'committed' && typeof result.version === 'number' ? [result.version] : [];
}
