/** Shared parts of the resubmit commands: options, repairs and sending. */
import type { ResubmitItem, ResubmitSent } from '../../../operations/resubmit/resubmission.ts';
import { sendItems } from '../../../operations/resubmit/send.ts';
import { onOneLine } from '../../../schemas/encoding/excerpt.ts';
import type { Repair } from '../../../schemas/resubmit.ts';
import { INPUT_LIMITS } from '../../input/correction-input.ts';
import { faultsText, readText } from '../../input/read-input.ts';
import { type NamedRepair, readRepairs, setNamed } from '../../input/repairs.ts';
import type { Clients } from '../../session/clients.ts';
import {
  EXIT,
  type ExitCode,
  LINEAGE,
  type OptionSpecification,
  flag,
  option,
  WAIT_OPTIONS,
} from '../../session/command.ts';
import { BY } from '../../session/operator.ts';
import { OutcomeWatch } from '../../session/outcome-watch.ts';
import type { Session } from '../../session/session.ts';
import { misused } from '../../terminal/command-failure.ts';
import type { Output } from '../../terminal/output.ts';
import { dim, green, red, yellow } from '../../terminal/colours.ts';
import { shortened, statusText } from '../../terminal/text.ts';
import { showOutcomes } from '../corrections/show-outcomes.ts';

const SET: OptionSpecification<Repair | undefined> = {
  flags: '--set <member=value>',
  help: `repair: subject, relation, prompt, target, previousAnswer, source, issuedAt (a time, or
  \`now\`), or paraphrases and neighbourhood, separated by | (repeatable)`,
  parse: setNamed,
};

export const RESUBMIT_OPTIONS = {
  set: SET,
  file: option(
    '--file <path>',
    `repairs as NDJSON, each with \`replayOf\` and the members that change; - is the standard
    input`,
  ),
  by: BY,
  lineage: LINEAGE,
  dryRun: flag('--dry-run', 'show what would be sent and its likely outcome, and send nothing'),
  ...WAIT_OPTIONS,
};

/** Returns the repairs by the id they apply to; `--set` is under `*`. Throws `CommandFailure`. */
export async function repairsOf(
  session: Session,
  { set, file }: { set: Repair | undefined; file: string | undefined },
): Promise<Map<string, NamedRepair>> {
  const repairs = file === undefined ? new Map<string, NamedRepair>() : await inFile(session, file);
  if (set !== undefined) repairs.set('*', set);
  return repairs;
}

async function inFile(session: Session, file: string): Promise<Map<string, NamedRepair>> {
  const text = await readText(session.surroundings, file, INPUT_LIMITS.bytesMax);
  const { repairs, faults } = readRepairs(text);
  if (faults.length > 0)
    throw misused(
      faultsText(file, faults),
      'Each line is a JSON object with `replayOf` and the members that change.',
    );
  if (repairs.size === 0) throw misused(`${file} holds no repairs`);
  return repairs;
}

/** Shows or sends the records. Returns exit code 1 if an item cannot be sent. */
export async function resubmitItems(
  output: Output,
  { clients, lineage }: { clients: Clients; lineage: string },
  items: readonly ResubmitItem[],
  { dryRun, wait, timeout }: { dryRun: boolean; wait: boolean; timeout: number },
): Promise<ExitCode> {
  const refused = items.some((item) => item.kind === 'kept' && !item.fixed);
  const code = refused ? EXIT.failure : EXIT.ok;
  if (dryRun) {
    const lines = items.map((item) => itemText(item, output));
    output.result({ dryRun: true, items: items.map(itemAsJson) }, () =>
      [...lines, summaryText(items, 'would be sent'), 'Nothing was sent.'].join('\n'),
    );
    return code;
  }
  for (const item of items)
    if (item.kind === 'kept') output.item(itemAsJson(item), () => itemText(item, output));
  const sending = items.filter((item): item is ResubmitSent => item.kind !== 'kept');
  if (sending.length === 0) {
    output.line(summaryText(items, 'were sent'));
    return code;
  }
  const watch = wait ? await OutcomeWatch.start(clients, [lineage]) : null;
  try {
    const sender = await clients.sender();
    const positions = await sendItems({ sender, format: clients.format }, lineage, sending);
    if (watch !== null) {
      // Retractions are identified by position, since a dead letter may share its id with others.
      const sent = sending.map(({ correction, id, what }, i) => ({
        id: correction === null ? null : id,
        what,
        position: positions[i]!,
      }));
      const decided = await showOutcomes(output, watch, sent, timeout);
      return decided === EXIT.ok ? code : decided;
    }
    for (const [i, item] of sending.entries())
      output.item({ ...itemAsJson(item), position: positions[i]! }, () => itemText(item, output));
    output.line(`${summaryText(items, 'were sent')} \`errata watch\` shows the outcomes.`);
    return code;
  } finally {
    await watch?.stop();
  }
}

const REASON_CHARACTERS_MAX = 500;

function itemAsJson(item: ResubmitItem): object {
  if (item.kind === 'kept') {
    const { of, reason, fix: mend, fixed: healed } = item;
    return { sent: false, of, reason, mend, healed };
  }
  const { kind, of, id, what, correction, repaired, from, likely } = item;
  return { kind, of, id, what, correction, repaired, from, likely };
}

function itemText(item: ResubmitItem, output: Output): string {
  const name = shortened(item.of, 60);
  if (item.kind === 'kept') {
    const fix = item.fix === null ? '' : `\n    ${dim('→')} ${item.fix}`;
    const reason = onOneLine(item.reason, REASON_CHARACTERS_MAX);
    return `${item.fixed ? dim('=') : red('✗')} ${name}: ${reason}${fix}`;
  }
  const { id, of, what, repaired, from } = item;
  const { good, text } = likelyText(item);
  const newId = id === null || id === of ? '' : ` → ${shortened(id, 60)}`;
  const origin = from === 'history' ? ', from the history of its batch' : '';
  const changes = repaired.length === 0 ? 'unchanged' : `with a new ${repaired.join(', ')}`;
  return [
    `${good ? green('+') : yellow('!')} ${name}${newId}  ${shortened(what, output.columns)}`,
    `    ${dim(`${changes}${origin}; ${text}`)}`,
  ].join('\n');
}

function likelyText({ likely }: ResubmitSent): { text: string; good: boolean } {
  switch (likely.kind) {
    case 'edited': {
      const ids = likely.supersedes.join(', ');
      const supersedes = ids === '' ? '' : `; it would supersede ${ids}`;
      return {
        text: `its target would be searched for, and the verdict decides${supersedes}`,
        good: true,
      };
    }
    case 'withdraws': {
      const ids = likely.removes.join(', ');
      return { text: `it would remove ${ids === '' ? 'nothing' : ids}`, good: ids !== '' };
    }
    case 'settled': {
      const { status, reason } = likely;
      const why = reason === null ? '' : `: ${onOneLine(reason, REASON_CHARACTERS_MAX)}`;
      return { text: `it would be ${statusText(status)}${why}`, good: false };
    }
    case 'dead-letter': {
      const why = onOneLine(likely.message, REASON_CHARACTERS_MAX);
      return { text: `it would become a dead letter again: ${why}`, good: false };
    }
  }
}

/** `2 were sent, 1 needs nothing, 1 cannot be.` */
function summaryText(items: readonly ResubmitItem[], verb: string): string {
  const kept = items.filter((item) => item.kind === 'kept');
  const fixed = kept.filter((item) => item.fixed).length;
  const parts = [
    `${items.length - kept.length} ${verb}`,
    fixed > 0 ? `${fixed} need nothing` : '',
    kept.length > fixed ? `${kept.length - fixed} cannot be sent` : '',
  ];
  return `${parts.filter((part) => part !== '').join(', ')}.`;
}
