import type { AliasRecord } from '../../../schemas/alias.ts';
import type { VersionEntry } from '../../../schemas/version-entry.ts';
import { wholeNumber } from '../../input/option-values.ts';
import { LINEAGE, command, option } from '../../session/command.ts';
import type { Output } from '../../terminal/output.ts';
import { bold, dim, green, red } from '../../terminal/colours.ts';
import { counted, percent, shortened, table } from '../../terminal/text.ts';
import { aliasText, undoText } from './version-text.ts';

/** `errata log`: lists a lineage's committed versions, newest first. */
export default command({
  usage: 'log',
  summary: 'list the committed versions',
  description: `Lists the versions of a lineage, newest first: when each was made, what it added,
removed and undid, what its probes measured, and which aliases name it. Reads the version log alone,
so nothing needs to run.`,
  examples: `
log                   the last 20 versions
log --count 3 --json  the last three with all their fields, for a program`,
  operation: 'read the version log',
  options: {
    lineage: LINEAGE,
    count: option('-n, --count <number>', 'how many, 1 to 100000', wholeNumber, 20),
  },
  async run(session, options) {
    const { lineage, log } = session.open(options.lineage);
    const { head, active } = await log.read();
    const shown = await log.entries(head.version - options.count + 1, head.version);
    shown.reverse();
    const aliases = [...(await log.aliases()).current.values()];
    const { output } = session;
    const versions = shown.map(({ entry, hash }) => ({ hash, ...entry }));
    output.result({ lineage, head, aliases, versions }, () => {
      if (versions.length === 0)
        return `Lineage ${lineage} has no versions yet: the base model answers.`;
      const row = (entry: (typeof versions)[number]) => {
        const named = aliases.filter(({ version }) => version === entry.version);
        return rowOf(output, entry, named);
      };
      return [
        table(HEAD, versions.map(row)),
        ...aliases.filter(({ version }) => version !== null).map(aliasText),
        dim(LEGEND),
        dim(
          `${counted(head.version, 'version')}, ${counted(active.size, 'correction')} hold. ` +
            '`errata show <version>` shows one in full.',
        ),
      ].join('\n');
    });
  },
});

const HEAD = ['v', 'hash', 'made (UTC)', 'change', 'holds', 'effect.', 'para.', 'near', 'perpl.'];
HEAD.push('corrections');
/** Width of all columns except the last. */
const FIXED_COLUMNS = 79;
const LEGEND = `effect.: corrections of the version that are effective; para.: their paraphrases
that give the target; near: neighbours that are unchanged.`;

function rowOf(
  output: Output,
  entry: VersionEntry & { hash: string },
  aliases: readonly AliasRecord[],
): string[] {
  const { after } = entry.probes;
  const removed = entry.removed.length > 0 ? ` ${red(`-${entry.removed.length}`)}` : '';
  const text = [...aliases.map(({ alias }) => `[${alias}]`), changesText(entry)].join(' ');
  return [
    bold(String(entry.version)),
    entry.hash.slice(0, 8),
    entry.createdAt.slice(0, 16).replace('T', ' '),
    `${green(`+${entry.added.length}`)}${removed}`,
    String(entry.corrections),
    percent(after.efficacy),
    percent(after.generalisation),
    percent(after.locality),
    after.canaryRatio.toFixed(4),
    shortened(text, output.columns - FIXED_COLUMNS),
  ];
}

function changesText({ undo, added, removed }: VersionEntry): string {
  const why = undo === undefined || undo.reason === '' ? '' : `: ${undo.reason}`;
  return [
    ...(undo === undefined ? [] : [`${undoText(undo)}${why}`]),
    ...added.map(({ subject, target }) => `${subject} → ${target}`),
    ...removed.map(({ because, correctionId }) => `${correctionId} ${because}`),
  ].join(', ');
}
