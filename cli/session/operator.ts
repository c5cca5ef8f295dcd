/**
 * Shared by the operator's commands: their flags, the connection to the lineages, and how an undo
 * is followed to its end.
 */
import { userInfo } from 'node:os';
import { InvalidArgumentError, type Command } from 'commander';
import type { Configuration } from '../../infra/config/configuration.ts';
import { attached } from '../../infra/local/system-state.ts';
import { openVersions } from '../../infra/config/open-versions.ts';
import {
  followUndo,
  orderUndo,
  undoRequest,
  type Authorship,
  type OperatedLineage,
} from '../../operations/undo.ts';
import type { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import type { UndoOrder } from '../../pipelines/workflows/contract.ts';
import type { UndoRequest, UndoResult, UndoTarget } from '../../schemas/undo.ts';
import { CommandFailure, notRunning } from './command-failure.ts';
import { StatusLine } from '../terminal/status-line.ts';
import type { Session } from './session.ts';

export interface OperatorOptions {
  lineage?: string;
  reason?: string;
  by?: string;
}

export interface UndoOptions extends OperatorOptions {
  dryRun?: boolean;
  id?: string;
  timeout: number;
}

export const BY_OPTION: [string, string, (text: string) => string] = [
  '--by <name>',
  'who asks (default: your login name)',
  ofAtMost(200),
];
export const REASON_OPTION: [string, string, (text: string) => string] = [
  '--reason <text>',
  'why, for whoever reads the log later',
  ofAtMost(1_000),
];

export function authorship({ reason = '', by = loginName() }: OperatorOptions): Authorship {
  return { reason, by };
}

/** Adds the flags of every command that undoes. */
export function undoFlags(command: Command): Command {
  return command
    .option(...REASON_OPTION)
    .option(...BY_OPTION)
    .option(
      '--dry-run',
      'show what would go, come back and stay, and do nothing; no system needs to run',
    )
    .option(
      '--id <name>',
      'a name for this undo (default: made up); a second undo of the same name waits for the ' +
        'first and is not done again',
      undoId,
    )
    .option(
      '--timeout <seconds>',
      'how long to wait for it; it goes on after that',
      seconds,
      1_800,
    );
}

export function undoRequestOf(target: UndoTarget, options: UndoOptions): UndoRequest {
  return undoRequest(target, { id: options.id, ...authorship(options) });
}

/** Connects to the lineages' workflows while `work` runs; fails where no Temporal is known. */
export async function withLineages<T>(
  session: Session,
  own: Configuration,
  operation: string,
  work: (lineages: TemporalLineages, configuration: Configuration) => Promise<T>,
): Promise<T> {
  const configuration = attached(own, session.system(own));
  if (configuration.temporal.address === '') throw notRunning(operation, own.home);
  const { temporalLineages } = await import('../../infra/config/connections.ts');
  const lineages = temporalLineages(configuration);
  try {
    return await work(lineages, configuration);
  } finally {
    await lineages.close();
  }
}

/** Connects to one lineage while `work` runs. */
export async function withLineage<T>(
  session: Session,
  { lineage: named, operation }: { lineage?: string; operation: string },
  work: (lineage: OperatedLineage) => Promise<T>,
): Promise<T> {
  const own = session.configuration();
  const lineage = session.lineage(own, named);
  const log = openVersions(own).log(lineage);
  return await withLineages(session, own, operation, (workflows, { settings }) =>
    work({ workflows, log, settings: settings[lineage]! }),
  );
}

/** Orders the undo and waits until it is decided. `again` is the command that waits on. */
export async function undoAndFollow(
  { output }: Session,
  lineage: OperatedLineage,
  order: UndoOrder,
  { timeoutSeconds, again }: { timeoutSeconds: number; again: string },
): Promise<UndoResult> {
  const { id } = order.request;
  const taken = await orderUndo(lineage, order);
  if (taken.kind === 'refused')
    throw new CommandFailure(
      'order the undo',
      taken.message,
      '`errata status` shows the undos that wait.',
    );
  if (taken.kind === 'left')
    output.warning('No workflow worker answers; Temporal keeps the undo until one does.');
  else if (taken.waiting > 0)
    output.note(`${taken.waiting} undo${taken.waiting === 1 ? '' : 's'} wait before it.`);
  const line = new StatusLine(output);
  try {
    const end = await followUndo(lineage, id, timeoutSeconds * 1_000, ({ state }) =>
      line.set(
        state === 'running'
          ? `undo ${id} is planned, staged and probed`
          : `undo ${id} waits for its turn`,
      ),
    );
    if (end.state === 'ended') return end.result;
    if (end.state === 'failed')
      throw new CommandFailure(
        'undo it',
        end.reason,
        `Nothing was written. Its history: Temporal's workflow ${taken.workflowId}.`,
      );
    throw new CommandFailure(
      'wait for the undo',
      `it is not done after ${timeoutSeconds} s`,
      `It is not lost: \`errata status\` shows it, and \`${again}\` waits on.`,
    );
  } finally {
    line.end();
  }
}

function loginName(): string {
  try {
    return userInfo().username;
  } catch {
    return 'unknown';
  }
}

function ofAtMost(charactersMax: number): (text: string) => string {
  return (text) => {
    if (text.length > charactersMax)
      throw new InvalidArgumentError(`It may have ${charactersMax} characters at most.`);
    return text;
  };
}

function undoId(text: string): string {
  if (!/^[a-z0-9][a-z0-9_-]{0,63}$/.test(text))
    throw new InvalidArgumentError('It must be 1 to 64 of a-z, 0-9, - and _.');
  return text;
}

function seconds(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 86_400))
    throw new InvalidArgumentError('It must be a number of seconds, at most 86400.');
  return value;
}
