import type { LineageEvent } from '../../../pipelines/kafka/tail.ts';
import { EXIT, type CommandSpecification } from '../../session/command.ts';
import { fateInWords } from '../../words/outcome-words.ts';
import { shortened, type Output } from '../../terminal/output.ts';
import { untilInterrupted } from '../../terminal/interruption.ts';

interface Options {
  lineage?: string;
  beginning?: boolean;
}

/** `errata watch`: outcomes, versions and dead letters as they are announced. */
const watch: CommandSpecification<Options> = {
  usage: 'watch',
  summary: 'follow outcomes and versions live',
  description:
    'Follows what the system announces: the outcome of every correction, every new version, every record that could not be read. Ends with Ctrl-C.',
  examples: [
    ['watch', 'everything from now on, all lineages'],
    [
      'watch --from-beginning --json',
      'everything that was ever announced (outcomes: the newest of each), one JSON object a line',
    ],
  ],
  operation: 'follow the stream',
  options: (command) =>
    command
      .option('--lineage <name>', 'only this lineage')
      .option('--from-beginning', 'what was announced before, too'),
  async run(session, options) {
    const { configuration } = session.connected('follow the stream');
    const lineages =
      options.lineage === undefined
        ? configuration.lineages
        : [session.lineage(configuration, options.lineage)];
    const [{ clientsOf }, { tail }] = await Promise.all([
      import('../../session/clients.ts'),
      import('../../../pipelines/kafka/tail.ts'),
    ]);
    const clients = clientsOf(configuration);
    try {
      const from =
        (options as { fromBeginning?: boolean }).fromBeginning === true ? 'beginning' : 'end';
      const reader = await tail(
        clients.cluster,
        lineages,
        {
          from,
          deadLetters: true,
          format: clients.format,
          waits: (reason) => session.output.warning(`${reason}. It is asked again and again.`),
        },
        (announcement) =>
          session.output.item(announcement, () =>
            describe(session.output, announcement, lineages.length > 1),
          ),
      );
      session.output.note(`Following ${lineages.join(', ')}. Ctrl-C ends it.`);
      try {
        const failure = await untilInterrupted(reader.ended);
        if (failure !== null) throw failure;
      } finally {
        await reader.stop();
      }
    } finally {
      await clients.close();
    }
    return EXIT.ok;
  },
};

export default watch;

function describe(output: Output, announcement: LineageEvent, several: boolean): string {
  const { bold, dim, red } = output.colours;
  const time = dim(new Date().toISOString().slice(11, 19));
  const lineage = several && 'lineage' in announcement ? `${announcement.lineage} ` : '';
  switch (announcement.kind) {
    case 'outcome':
      return `${time} ${lineage}${shortened(announcement.outcome.revisionId, 40).padEnd(40)} ${fateInWords({ kind: 'outcome', outcome: announcement.outcome }, output.colours)}`;
    case 'version': {
      const { version } = announcement;
      return `${time} ${lineage}${bold(`version ${version.version}`)}  +${version.added} -${version.removed}, ${version.corrections} hold`;
    }
    case 'dead-letter':
      return `${time} ${lineage}${red('dead letter')} ${announcement.origin.topic}-${announcement.origin.partition}@${announcement.origin.offset}: ${shortened(announcement.message, output.columns - 20)}`;
    case 'unreadable':
      return `${time} ${red('unreadable')} ${announcement.topic}-${announcement.partition}@${announcement.offset}: ${shortened(announcement.message, output.columns - 20)}`;
  }
}
