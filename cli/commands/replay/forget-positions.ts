import { command, flag, LINEAGE } from '../../session/command.ts';
import { withLineages } from '../../session/operator.ts';
import { misused } from '../../terminal/command-failure.ts';
import { mark } from '../../terminal/text.ts';

/** `errata replay forget-positions`: for a topic that was deleted and created again. */
export default command({
  usage: 'forget-positions',
  summary: 'take the records of a corrections topic that was created again',
  description: `A lineage takes no record twice. Where its corrections topic was deleted and created
again, offsets begin again and its new records are refused until this command forgets the old
positions. What was taken stays. It refuses where no partition ends before the position that was
taken.`,
  examples: `
replay forget-positions --dry-run       how far each partition was taken, and where it ends
replay forget-positions --lineage news  after the topic of news was created again`,
  operation: 'forget the positions',
  options: {
    lineage: LINEAGE,
    dryRun: flag('--dry-run', 'show which partitions look new, and do nothing'),
    anyway: flag('--anyway', 'also where the topic does not look new'),
  },
  async run(session, options) {
    const { output } = session;
    const { configuration } = session.connected();
    const opened = session.open(options.lineage, configuration);
    const { lineage } = opened;
    const ends = await session.withClients(configuration, (clients) => clients.lag(lineage));
    await withLineages(opened, async (lineages) => {
      const taken = (await lineages.status(lineage))?.highWater ?? {};
      const partitions = ends.map(({ topic, partition, end }) => {
        const takenThrough = taken[`${topic}-${partition}`] ?? null;
        const anew = BigInt(takenThrough ?? '-1') >= BigInt(end);
        return { topic, partition, end, takenThrough, anew };
      });
      if (options.dryRun) {
        const lines = partitions.map(({ topic, partition, end, takenThrough, anew }) => {
          const verdict = anew ? ': it is new, its records would be admitted' : '';
          const through = takenThrough ?? 'nothing';
          return `${topic}-${partition}  taken through ${through}, ends at ${end}${verdict}`;
        });
        output.result({ dryRun: true, lineage, partitions }, () =>
          [...lines, 'Nothing was done.'].join('\n'),
        );
        return;
      }
      if (!partitions.some(({ anew }) => anew) && !options.anyway)
        throw misused(
          'no partition ends before the position that was taken, so the topic is not new',
          '`errata status` shows how far each partition is read.',
        );
      await lineages.forgetPositions(lineage);
      output.result(
        { lineage, forgotten: taken },
        () =>
          `${mark(true)} Positions of ${lineage} are forgotten; its records are taken ` +
          'from where Kafka has them.',
      );
    });
  },
});
