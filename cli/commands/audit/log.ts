import { InvalidArgumentError } from 'commander';
import { openVersions } from '../../../infra/config/open-versions.ts';
import type { VersionEntry } from '../../../schemas/version-entry.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { aliasInWords } from '../../words/alias-words.ts';
import { percent, shortened } from '../../terminal/output.ts';
import { undoInWords } from '../../words/undo-text.ts';

interface Options {
  lineage?: string;
  count: number;
}

/**
 * `errata log`: the committed versions of a lineage, newest first, straight from the version log.
 */
const log: CommandSpecification<Options> = {
  usage: 'log',
  summary: 'list the committed versions',
  description:
    'Lists the versions of a lineage, newest first: when, what was added, removed and undone, what the probes said, and which aliases name a version. Reads the version log itself, so nothing needs to run.',
  examples: [
    ['log', 'the last 20 versions'],
    ['log --count 3 --json', 'the last three, whole, for a program'],
  ],
  operation: 'read the version log',
  options: (command) =>
    command
      .option(...LINEAGE_OPTION)
      .option('-n, --count <number>', 'how many, 1 to 100000', wholeNumber, 20),
  async run(session, options) {
    const configuration = session.configuration();
    const lineage = session.lineage(configuration, options.lineage);
    const log = openVersions(configuration).log(lineage);
    const history = await log.read();
    const { version: head } = history.head;
    const shown = (await log.entries(head - options.count + 1, head)).reverse();
    const aliases = [...(await log.aliases()).current.values()];
    const { output } = session;
    output.result(
      {
        lineage,
        head: history.head,
        aliases,
        versions: shown.map(({ entry, hash }) => ({ hash, ...entry })),
      },
      () => {
        if (shown.length === 0)
          return `Lineage ${lineage} has no versions yet: the model answers as it was made.`;
        const rows = shown.map(({ entry, hash }) => [
          output.colours.bold(String(entry.version)),
          hash.slice(0, 8),
          entry.createdAt.slice(0, 16).replace('T', ' '),
          `${output.colours.green(`+${entry.added.length}`)}${entry.removed.length > 0 ? ` ${output.colours.red(`-${entry.removed.length}`)}` : ''}`,
          String(entry.corrections),
          percent(entry.probes.after.efficacy),
          percent(entry.probes.after.generalisation),
          percent(entry.probes.after.locality),
          entry.probes.after.canaryRatio.toFixed(4),
          shortened(
            [
              ...aliases
                .filter(({ version }) => version === entry.version)
                .map(({ alias }) => `[${alias}]`),
              whatIn(entry),
            ].join(' '),
            output.columns - FIXED_COLUMNS,
          ),
        ]);
        const table = output.table(
          [
            'v',
            'hash',
            'made (UTC)',
            'change',
            'holds',
            'effect.',
            'para.',
            'near',
            'perpl.',
            'corrections',
          ],
          rows,
        );
        const held = aliases
          .filter(({ version }) => version !== null)
          .map((word) => `\n${aliasInWords(word)}`)
          .join('');
        return `${table}${held}\n${output.colours.dim(`effect., para., near: share of the version's corrections that hold, of their paraphrases, of neighbours that stayed.\n${head} version${head === 1 ? '' : 's'}, ${history.active.size} corrections hold. errata show <version> tells more.`)}`;
      },
    );
    return EXIT.ok;
  },
};

export default log;

/** All columns but the last. */
const FIXED_COLUMNS = 79;

function whatIn(entry: VersionEntry): string {
  const undo =
    entry.undo === undefined
      ? []
      : [`${undoInWords(entry.undo)}${entry.undo.reason === '' ? '' : `: ${entry.undo.reason}`}`];
  return [
    ...undo,
    ...entry.added.map(({ subject, target }) => `${subject} → ${target}`),
    ...entry.removed.map(({ because, correctionId }) => `${correctionId} ${because}`),
  ].join(', ');
}

export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 100_000)
    throw new InvalidArgumentError('It must be a whole number from 1 to 100000.');
  return value;
}
