/**
 * What the commands of an operator share: who asks, whom they ask, and how an undo is followed to
 * its end.
 */
import { randomBytes } from 'node:crypto';
import { userInfo } from 'node:os';
import { InvalidArgumentError, type Command } from 'commander';
import type { Configuration } from '../../infra/config/configuration.ts';
import { attached } from '../../infra/local/system-state.ts';
import type { TemporalLineages, UndoProgress } from '../../pipelines/temporal/temporal-client.ts';
import type { UndoOrder } from '../../pipelines/workflows/contract.ts';
import type { ProbeScores } from '../../schemas/editing.ts';
import type { UndoRequest, UndoResult, UndoTarget } from '../../schemas/undo.ts';
import type { UndoFindings } from '../../versions/undo.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { CommandFailure, notRunning } from './command-failure.ts';
import { EXIT, type ExitCode } from '../terminal/exit-code.ts';
import { percent, shortened, type Output } from '../terminal/output.ts';
import type { Session } from './session.ts';
import { StatusLine } from '../terminal/status-line.ts';

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

/** Why and by whom, as far as it was said. */
export function askedBy({ reason, by }: OperatorOptions): { reason: string; by: string } {
  return { reason: reason ?? '', by: by ?? loginName() };
}

/** The flags of every command that undoes. */
export function undoFlags(command: Command): Command {
  return command
    .option(...REASON_OPTION)
    .option(...BY_OPTION)
    .option(
      '--dry-run',
      'say what would go, come back and stay; nothing needs to run, and nothing is done',
    )
    .option(
      '--id <name>',
      'a name for this undo: the same name twice is one undo, and the second waits for the first (default: made up)',
      undoId,
    )
    .option(
      '--timeout <seconds>',
      'how long to wait for it at most; it goes on all the same',
      seconds,
      1_800,
    );
}

export function orderOf(
  target: UndoTarget,
  options: UndoOptions,
  releaseAlias: string | null,
): UndoOrder {
  const { reason, by } = askedBy(options);
  const request: UndoRequest = {
    id: options.id ?? `u${randomBytes(6).toString('hex')}`,
    target,
    reason,
    requestedBy: by,
    requestedAt: Date.now(),
  };
  return { request, releaseAlias };
}

/**
 * The lineages' workflows of what runs, for as long as `work` takes; a failure where no Temporal is
 * known.
 */
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

/**
 * Hands the undo over and stays until it is decided. `again` is the command that goes on waiting.
 */
export async function undone(
  session: Session,
  lineages: TemporalLineages,
  configuration: Configuration,
  lineage: string,
  order: UndoOrder,
  timeoutSeconds: number,
  again: string,
): Promise<UndoResult> {
  const { output } = session;
  const { id } = order.request;
  const taken = await lineages.undo(lineage, configuration.settings[lineage]!, order);
  if (taken.kind === 'refused')
    throw new CommandFailure(
      'hand the undo over',
      taken.message,
      '`errata status` shows the undos that wait.',
    );
  if (taken.kind === 'left')
    output.warning('No workflow worker answers; the undo is kept by Temporal until one does.');
  else if (taken.waiting > 0)
    output.note(`${taken.waiting} undo${taken.waiting === 1 ? '' : 's'} wait before it.`);
  const line = new StatusLine(output);
  const deadline = performance.now() + timeoutSeconds * 1_000;
  try {
    for (;;) {
      const progress = await progressOf(lineages, lineage, id);
      if (progress.kind === 'ended') return progress.result;
      if (progress.kind === 'failed')
        throw new CommandFailure(
          'undo it',
          progress.reason,
          `Nothing was written. Its history: Temporal's workflow ${taken.workflowId}.`,
        );
      line.set(
        progress.kind === 'running'
          ? `undo ${id} is planned, staged and probed`
          : `undo ${id} waits for its turn`,
      );
      if (performance.now() > deadline)
        throw new CommandFailure(
          'wait for the undo',
          `it is not done after ${timeoutSeconds} s`,
          `It is not lost: \`errata status\` shows it, and \`${again}\` waits on.`,
        );
      await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS));
    }
  } finally {
    line.end();
  }
}

const ASK_EVERY_MS = 400;

/** One that has no workflow waits, or was given up before it got one. */
async function progressOf(
  lineages: TemporalLineages,
  lineage: string,
  id: string,
): Promise<UndoProgress> {
  const progress = await lineages.undoProgress(lineage, id);
  if (progress.kind !== 'unknown') return progress;
  const status = await lineages.status(lineage).catch(() => null);
  const ended = status?.undos.ended.find((one) => one.id === id);
  return ended?.kind === 'failed'
    ? { kind: 'failed', reason: ended.reason ?? 'it failed' }
    : progress;
}

/** Tells the result; `nothing` says how it counts that there was nothing to do. */
export async function tellResult(
  output: Output,
  log: VersionLog,
  { request }: UndoOrder,
  result: UndoResult,
  nothing: ExitCode,
): Promise<ExitCode> {
  const { green, red, yellow } = output.colours;
  switch (result.kind) {
    case 'undone': {
      const { before, after } = await scoresOf(log, result);
      output.result({ id: request.id, ...result, before, after }, () =>
        [
          `${green('✓')} Version ${result.version} (${result.hash.slice(0, 8)}): ${counted(result.removed, 'correction')} went, ${result.restored} came back.`,
          ...keptLines(result.kept),
          scoreTable(output, before, after),
        ].join('\n'),
      );
      return EXIT.ok;
    }
    case 'nothing':
      output.result({ id: request.id, ...result }, () =>
        [`${yellow('!')} Nothing to undo: ${result.reason}.`, ...keptLines(result.kept)].join('\n'),
      );
      return nothing;
    case 'refused':
      output.result({ id: request.id, ...result }, () =>
        [
          `${red('✗')} Refused by its probes; nothing was written:`,
          ...result.reasons.map((reason) => `    ${reason}`),
          scoreTable(output, result.before, result.after),
          'The thresholds are settings of the lineage (docs/configuration.md, "verdict").',
        ].join('\n'),
      );
      return EXIT.failure;
  }
}

/** What an undo would do, from the log alone. */
export function tellFindings(
  output: Output,
  log: { active: ReadonlyMap<string, { subject: string; target: string }> },
  findings: UndoFindings,
): ExitCode {
  const { head, removals, restored, kept, nothing } = findings;
  const value = {
    head,
    goes: removals.map(({ correctionId, factKey }) => ({ correctionId, factKey })),
    comesBack: restored.map(({ revision, origin }) => ({
      correctionId: revision.correction.id,
      factKey: revision.factKey,
      target: revision.correction.target,
      version: origin.version,
    })),
    stays: kept,
    nothing,
  };
  output.result(value, () => {
    const { green, red, yellow } = output.colours;
    if (nothing !== null)
      return [`${yellow('!')} Nothing to undo: ${nothing}.`, ...keptLines(kept)].join('\n');
    const shown = <T>(items: readonly T[], words: (item: T) => string): string[] => [
      ...items
        .slice(0, SHOWN_MAX)
        .map((item) => `    ${shortened(words(item), output.columns - 4)}`),
      ...(items.length > SHOWN_MAX
        ? [`    and ${items.length - SHOWN_MAX} more (--json lists all)`]
        : []),
    ];
    return [
      `Seen from version ${head.version}; its probes may refuse it.`,
      `  ${red('-')} ${counted(removals.length, 'correction')} would go`,
      ...shown(
        removals,
        ({ correctionId }) =>
          `${correctionId}: ${log.active.get(correctionId)?.subject ?? ''} → ${log.active.get(correctionId)?.target ?? ''}`,
      ),
      `  ${green('+')} ${counted(restored.length, 'correction')} would come back`,
      ...shown(
        restored,
        ({ revision: { correction }, origin }) =>
          `${correction.id}: ${correction.subject} → ${correction.target} (version ${origin.version})`,
      ),
      ...keptLines(kept),
    ].join('\n');
  });
  return nothing === null ? EXIT.ok : EXIT.failure;
}

const SHOWN_MAX = 20;

function keptLines(kept: readonly { correctionId: string; reason: string }[]): string[] {
  return kept.length === 0
    ? []
    : [
        `  = ${kept.length} would come back and cannot:`,
        ...kept
          .slice(0, SHOWN_MAX)
          .map(({ correctionId, reason }) => `    ${correctionId}: ${reason}`),
      ];
}

/** An undo that an earlier run had done has its scores in the log. */
async function scoresOf(
  log: VersionLog,
  { version, before, after }: Extract<UndoResult, { kind: 'undone' }>,
): Promise<{ before: ProbeScores; after: ProbeScores }> {
  return before !== null && after !== null
    ? { before, after }
    : (await log.entry(version)).entry.probes;
}

function scoreTable(output: Output, before: ProbeScores, after: ProbeScores): string {
  const row = (name: string, scores: ProbeScores): string[] => [
    name,
    percent(scores.efficacy),
    percent(scores.generalisation),
    percent(scores.locality),
    percent(scores.retention),
    `× ${scores.canaryRatio.toFixed(4)}`,
    scores.editNorm.toFixed(3),
  ];
  return output.table(
    ['', 'effective', 'paraphrases', 'neighbours', 'earlier ones', 'perplexity', 'edit norm'],
    [row('before', before), row('after', after)],
  );
}

export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** As a shell reads it as one word. */
export function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
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
