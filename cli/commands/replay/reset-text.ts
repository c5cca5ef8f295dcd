/** Formats a planned reset of a workflow for a terminal. */
import { type PlannedReset, countedNames } from '../../../operations/replay/reset.ts';
import { bold, dim, green } from '../../terminal/colours.ts';

const POINTS_SHOWN_MAX = 40;

/** Shows the run's reset points, and the steps that run again from the chosen one. */
export function resetText({
  run,
  points,
  point,
  again,
  committed,
  reapplied,
}: PlannedReset): string {
  const shown = points.slice(-POINTS_SHOWN_MAX);
  const hidden = points.length - shown.length;
  const status = run.status.toLowerCase().replaceAll('_', ' ');
  const pointLine = ({ eventId, at, does }: (typeof points)[number]): string =>
    `  ${eventId === point.eventId ? green('→') : ' '} ${String(eventId).padStart(5)}` +
    `  ${new Date(at).toISOString()}  ${does.length === 0 ? dim('nothing') : timesText(does)}`;
  const repeated = again.length === 0 ? 'what was not done yet' : again.map(timesOf).join(', ');
  return [
    `${bold(run.workflowId)}  ${status}  ${dim(run.runId)}`,
    ...(hidden > 0 ? [dim(`  ${hidden} earlier points; --json names them`)] : []),
    ...shown.map(pointLine),
    `Run again from event ${point.eventId}: ${repeated}.`,
    ...(reapplied === 0 ? [] : [`Signals and updates received again: ${reapplied}.`]),
    committed.length === 0
      ? 'Nothing that is run again has made a version.'
      : `Committed since and kept: version ${committed.join(', ')}. Nothing is applied twice.`,
  ].join('\n');
}

function timesText(names: readonly string[]): string {
  return countedNames(names).map(timesOf).join(', ');
}

function timesOf({ name, times }: { name: string; times: number }): string {
  return times === 1 ? name : `${name} × ${times}`;
}
