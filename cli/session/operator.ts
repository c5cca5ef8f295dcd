/** Shared parts of the operator's commands: options, the connection, and following an undo. */
import { userInfo } from 'node:os';
import { followUndo, orderUndo, type OperatedLineage } from '../../operations/undo.ts';
import type { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import type { UndoOrder } from '../../pipelines/workflows/contract.ts';
import type { UndoResult } from '../../schemas/undo.ts';
import { atMost, matching, seconds } from '../input/option-values.ts';
import { failed, notRunning } from '../terminal/command-failure.ts';
import { counted } from '../terminal/text.ts';
import { StatusLine } from '../terminal/status-line.ts';
import { flag, LINEAGE, option, type OptionSpecification } from './command.ts';
import type { Opened, Session } from './session.ts';

export const BY: OptionSpecification<string> = {
  flags: '--by <name>',
  help: 'who asks (default: your login name)',
  parse: atMost(200),
  absent: loginName(),
};

export const REASON: OptionSpecification<string> = {
  flags: '--reason <text>',
  help: 'why, for whoever reads the log later',
  parse: atMost(1_000),
  absent: '',
};

export const UNDO_OPTIONS = {
  lineage: LINEAGE,
  reason: REASON,
  by: BY,
  dryRun: flag(
    '--dry-run',
    'show what would go, come back and stay, and do nothing; no system needs to run',
  ),
  id: option(
    '--id <name>',
    `a name for this undo (default: generated); a second undo of the same name waits for the first
    and is not done again`,
    matching(/^[a-z0-9][a-z0-9_-]{0,63}$/, '1 to 64 of a-z, 0-9, - and _'),
  ),
  timeout: option(
    '--timeout <seconds>',
    'how long to wait for it; it continues after that',
    seconds,
    1_800,
  ),
};

/** Connects to the lineages' workflows. Fails if Temporal's address is unknown. */
export async function withLineages<T>(
  { configuration }: Opened,
  work: (lineages: TemporalLineages) => Promise<T>,
): Promise<T> {
  if (configuration.temporal.address === '') throw notRunning(configuration.home);
  const { temporalLineages } = await import('../../infra/config/connections.ts');
  const lineages = temporalLineages(configuration);
  try {
    return await work(lineages);
  } finally {
    await lineages.close();
  }
}

export async function withLineage<T>(
  opened: Opened,
  work: (lineage: OperatedLineage) => Promise<T>,
): Promise<T> {
  const { configuration, lineage, log } = opened;
  const settings = configuration.settings[lineage]!;
  return await withLineages(opened, (workflows) => work({ workflows, log, settings }));
}

/** Orders the undo and waits for its end. `again` is the command that resumes waiting. */
export async function undoAndFollow(
  { output }: Session,
  lineage: OperatedLineage,
  order: UndoOrder,
  { timeout, again }: { timeout: number; again: string },
): Promise<UndoResult> {
  const { id } = order.request;
  const taken = await orderUndo(lineage, order);
  if (taken.kind === 'refused')
    throw failed(taken.message, '`errata status` shows the undos that wait.');
  if (taken.kind === 'left')
    output.warning('No workflow worker answers; Temporal keeps the undo until one does.');
  else if (taken.waiting > 0) output.note(`Waiting before it: ${counted(taken.waiting, 'undo')}.`);
  const line = new StatusLine(output);
  try {
    const end = await followUndo(lineage, id, timeout * 1_000, ({ state }) =>
      line.set(`undo ${id} ${state === 'running' ? 'is planned, staged and probed' : 'waits'}`),
    );
    if (end.state === 'ended') return end.result;
    if (end.state === 'failed')
      throw failed(
        end.reason,
        `Nothing was written. Its history is in Temporal's workflow ${taken.workflowId}.`,
      );
    throw failed(
      `it is not done after ${timeout} s`,
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
