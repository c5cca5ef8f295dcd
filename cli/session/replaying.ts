/**
 * What the commands that replay records share: their flags, how what would be sent is shown, and
 * the sending.
 */
import type { Command } from 'commander';
import { onOneLine } from '../../schemas/encoding/excerpt.ts';
import type { Repair } from '../../schemas/resubmit.ts';
import type { ResubmitItem, ResubmitSent } from '../../operations/resubmit/resubmission.ts';
import { sendItems } from '../../operations/resubmit/send.ts';
import type { Clients } from './clients.ts';
import { CommandFailure } from './command-failure.ts';
import { secondsNamed, textOf, untilDecided, type Sent } from '../commands/corrections/submit.ts';
import { EXIT, LINEAGE_OPTION, type ExitCode } from './command.ts';
import { BY_OPTION } from './operator.ts';
import { watchOutcomes } from './outcome-watch.ts';
import { shortened, type Output } from '../terminal/output.ts';
import { readRepairs, setNamed } from '../input/repairs.ts';
import type { Session } from './session.ts';

export interface ReplayingOptions {
  lineage?: string;
  set?: Repair;
  file?: string;
  dryRun?: boolean;
  wait?: boolean;
  timeout: number;
  by: string;
}

export function replayingFlags(command: Command): Command {
  return command
    .option(
      '--set <member=value>',
      'repair: subject, relation, prompt, target, previousAnswer, source, issuedAt (a time, or `now`), or paraphrases and neighbourhood, separated by | (repeatable)',
      setNamed,
    )
    .option(
      '--file <path>',
      'repairs as NDJSON, each with `replayOf` and the members that change; - is the standard input',
    )
    .option(...BY_OPTION)
    .option(...LINEAGE_OPTION)
    .option(
      '--dry-run',
      'say what would be sent and what would likely become of it, and send nothing',
    )
    .option('--wait', 'stay until it is decided what becomes of each')
    .option('--timeout <seconds>', 'with --wait: how long at most', secondsNamed, 1_800);
}

/**
 * The repairs by what they repair; those of --set under `*`. Throws a `CommandFailure` that names
 * every fault of the file.
 */
export async function repairsOf(
  session: Session,
  { set, file }: Pick<ReplayingOptions, 'set' | 'file'>,
): Promise<Map<string, Repair & { id?: string }>> {
  const { repairs, faults } =
    file === undefined
      ? { repairs: new Map<string, Repair & { id?: string }>(), faults: [] }
      : readRepairs(await textOf(session, file));
  if (faults.length > 0)
    throw new CommandFailure(
      'read the repairs',
      `${faults.length} fault${faults.length === 1 ? '' : 's'}, so nothing was sent:${faults
        .slice(0, FAULTS_SHOWN_MAX)
        .map(({ line, reason }) => `\n  line ${line}: ${reason}`)
        .join('')}`,
      'Each line is a JSON object with `replayOf` and the members that change.',
      EXIT.usage,
    );
  if (file !== undefined && repairs.size === 0)
    throw new CommandFailure(
      'read the repairs',
      `${file === '-' ? 'the input' : file} holds no repairs`,
      null,
      EXIT.usage,
    );
  if (set !== undefined) repairs.set('*', set);
  return repairs;
}

const FAULTS_SHOWN_MAX = 20;

/**
 * Shows what would be sent, or sends it. Exits with 1 where something that was asked for is not
 * sent.
 */
export async function replayItems(
  session: Session,
  clients: Clients,
  lineage: string,
  items: readonly ResubmitItem[],
  options: ReplayingOptions,
): Promise<ExitCode> {
  const { output } = session;
  const sent = items.filter((item): item is ResubmitSent => item.kind !== 'kept');
  const keptOpen = items.filter((item) => item.kind === 'kept' && !item.fixed);
  const refused: ExitCode = keptOpen.length > 0 ? EXIT.failure : EXIT.ok;
  if (options.dryRun === true) {
    output.result({ dryRun: true, items: items.map(shownItem) }, () =>
      [
        ...items.map((item) => itemLine(item, output)),
        summary(items, 'would be sent'),
        'Nothing was sent.',
      ].join('\n'),
    );
    return refused;
  }
  const kept = items.filter((item) => item.kind === 'kept');
  for (const item of kept) output.item(shownItem(item), () => itemLine(item, output));
  if (sent.length === 0) {
    output.line(summary(items, 'were sent'));
    return refused;
  }
  const watch = options.wait === true ? await watchOutcomes(clients, [lineage]) : null;
  try {
    const positions = await send(clients, lineage, sent);
    if (watch === null) {
      sent.forEach((item, i) =>
        output.item({ ...shownItem(item), position: positions[i]!.position }, () =>
          itemLine(item, output),
        ),
      );
      output.line(`${summary(items, 'were sent')} \`errata watch\` shows what becomes of them.`);
      return refused;
    }
    const decided = await untilDecided(
      session,
      positions,
      options.timeout,
      (revision) => watch.fateOf(revision),
      watch.ended,
    );
    return decided === EXIT.ok ? refused : decided;
  } finally {
    await watch?.stop();
  }
}

async function send(
  clients: Clients,
  lineage: string,
  items: readonly ResubmitSent[],
): Promise<Sent[]> {
  const sender = await clients.sender();
  const positions = await sendItems({ sender, format: clients.format }, lineage, items);
  // A retraction is known by its position; a letter's id may be that of others as well.
  return items.map((item, i) => ({
    id: item.correction === null ? null : item.id,
    what: item.what,
    position: positions[i]!,
  }));
}

/** As JSON has it. */
function shownItem(item: ResubmitItem): object {
  if (item.kind === 'kept')
    return { sent: false, of: item.of, reason: item.reason, mend: item.fix, healed: item.fixed };
  const { kind, of, id, what, correction, repaired, from, likely } = item;
  return { kind, of, id, what, correction, repaired, from, likely };
}

function itemLine(item: ResubmitItem, output: Output): string {
  const { dim, green, yellow, red } = output.colours;
  if (item.kind === 'kept')
    return `${item.fixed ? dim('=') : red('✗')} ${shortened(item.of, 60)}: ${onOneLine(item.reason, REASON_CHARACTERS_MAX)}${item.fix === null ? '' : `\n    ${dim('→')} ${item.fix}`}`;
  const likely = likelyWords(item);
  const repaired =
    item.repaired.length === 0 ? 'as it was' : `with another ${item.repaired.join(', ')}`;
  return `${likely.good ? green('+') : yellow('!')} ${shortened(item.of, 60)}${item.id === null || item.id === item.of ? '' : ` → ${shortened(item.id, 60)}`}  ${shortened(item.what, output.columns)}\n    ${dim(`${repaired}${item.from === 'history' ? ', from the history of its batch' : ''}; ${likely.text}`)}`;
}

function likelyWords({ likely }: ResubmitSent): { text: string; good: boolean } {
  switch (likely.kind) {
    case 'edited':
      return {
        text: `its target would be searched for, and the verdict decides${likely.supersedes.length === 0 ? '' : `; it would supersede ${likely.supersedes.join(', ')}`}`,
        good: true,
      };
    case 'withdraws':
      return {
        text:
          likely.removes.length === 0
            ? 'it would take nothing out'
            : `it would take out ${likely.removes.join(', ')}`,
        good: likely.removes.length > 0,
      };
    case 'settled':
      return {
        text: `it would be ${likely.status.toLowerCase().replaceAll('_', ' ')}${likely.reason === null ? '' : `: ${onOneLine(likely.reason, REASON_CHARACTERS_MAX)}`}`,
        good: false,
      };
    case 'dead-letter':
      return {
        text: `it would come back as a dead letter: ${onOneLine(likely.message, REASON_CHARACTERS_MAX)}`,
        good: false,
      };
  }
}

const REASON_CHARACTERS_MAX = 500;

function summary(items: readonly ResubmitItem[], were: string): string {
  const sent = items.filter(({ kind }) => kind !== 'kept').length;
  const healed = items.filter((item) => item.kind === 'kept' && item.fixed).length;
  const open = items.length - sent - healed;
  return (
    [
      `${sent} ${were}`,
      ...(healed > 0 ? [`${healed} need nothing`] : []),
      ...(open > 0 ? [`${open} cannot be`] : []),
    ].join(', ') + '.'
  );
}
