import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { withLineages } from '../../session/operator.ts';

interface Options {
  lineage?: string;
  anyway?: boolean;
  dryRun?: boolean;
}

/** `errata replay forget-positions`: for a topic that was deleted and made anew. */
const forgetPositions: CommandSpecification<Options> = {
  usage: 'forget-positions',
  summary: 'take the records of a corrections topic that was made anew',
  description: `A lineage remembers how far it took each partition, and takes no record twice. Where its corrections topic was deleted and made anew, offsets begin again, and its new records are refused: this lets them in. What was taken from the old topic stays; a correction whose id was decided is a duplicate. It is refused where no partition ends before what was taken of it.`,
  examples: [
    ['replay forget-positions --dry-run', 'how far each partition was taken, and where it ends'],
    ['replay forget-positions --lineage news', 'after the topic of news was made anew'],
  ],
  operation: 'forget the positions',
  options: (command) =>
    command
      .option(...LINEAGE_OPTION)
      .option('--dry-run', 'say which partitions look made anew, and do nothing')
      .option('--anyway', 'also where the topic does not look made anew'),
  async run(session, options) {
    const { configuration } = session.connected(forgetPositions.operation);
    const lineage = session.lineage(configuration, options.lineage);
    return await withLineages(
      session,
      configuration,
      forgetPositions.operation,
      async (lineages) => {
        const clients = (await import('../../session/clients.ts')).clientsOf(configuration);
        try {
          const taken = (await lineages.status(lineage))?.highWater ?? {};
          const ends = await clients.lag(lineage);
          const anew = ends.filter(
            ({ topic, partition, end }) =>
              BigInt(taken[`${topic}-${partition}`] ?? '-1') >= BigInt(end),
          );
          if (anew.length === 0 && options.anyway !== true && options.dryRun !== true)
            throw new CommandFailure(
              forgetPositions.operation,
              'no partition ends before what was taken of it, so the topic was not made anew',
              '`errata status` shows how far each partition is read.',
              EXIT.usage,
            );
          if (options.dryRun === true) {
            const partitions = ends.map(({ topic, partition, end }) => ({
              topic,
              partition,
              end,
              takenThrough: taken[`${topic}-${partition}`] ?? null,
              anew: anew.some((one) => one.topic === topic && one.partition === partition),
            }));
            session.output.result({ dryRun: true, lineage, partitions }, () =>
              [
                ...partitions.map(
                  (one) =>
                    `${one.topic}-${one.partition}  taken through ${one.takenThrough ?? 'nothing'}, ends at ${one.end}${one.anew ? ': made anew, its records would be let in' : ''}`,
                ),
                'Nothing was done.',
              ].join('\n'),
            );
            return EXIT.ok;
          }
          await lineages.forgetPositions(lineage);
          session.output.result(
            { lineage, forgotten: taken },
            () =>
              `${session.output.colours.green('✓')} Positions of ${lineage} are forgotten; its records are taken from where Kafka has them.`,
          );
          return EXIT.ok;
        } finally {
          await clients.close();
        }
      },
    );
  },
};

export default forgetPositions;
