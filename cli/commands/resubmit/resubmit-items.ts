/** What both commands that resubmit share: their options, the repairs, and the sending. */
import type { ResubmitItem, ResubmitSent } from '../../../operations/resubmit/resubmission.ts';
import { sendItems } from '../../../operations/resubmit/send.ts';
import type { Repair } from '../../../schemas/resubmit.ts';
import { INPUT_LIMITS } from '../../input/correction-input.ts';
import { seconds } from '../../input/option-values.ts';
import { faultsText, readText } from '../../input/read-input.ts';
import { readRepairs, setNamed, type NamedRepair } from '../../input/repairs.ts';
import type { Clients } from '../../session/clients.ts';
import {
  EXIT,
  flag,
  LINEAGE,
  option,
  type ExitCode,
  type OptionSpecification,
} from '../../session/command.ts';
import { BY } from '../../session/operator.ts';
import { OutcomeWatch } from '../../session/outcome-watch.ts';
import type { Session } from '../../session/session.ts';
import { misused } from '../../terminal/command-failure.ts';
import type { Output } from '../../terminal/output.ts';
import { itemAsJson, itemText, summaryText } from '../../words/resubmit-text.ts';
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
  wait: flag('--wait', 'stay until each is decided'),
  timeout: option('--timeout <seconds>', 'with --wait: how long at most', seconds, 1_800),
};

/** The repairs by what they repair; those of --set under `*`. Throws `CommandFailure`. */
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

/** Shows what would be sent, or sends it. Exits with 1 where an item cannot be sent. */
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
      // A retraction is known by its position; a letter may share its id with others.
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
