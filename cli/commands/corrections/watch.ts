import type { LineageEvent } from '../../../pipelines/kafka/tail.ts';
import { command, flag, option } from '../../session/command.ts';
import { untilInterrupted } from '../../terminal/interruption.ts';
import type { Output } from '../../terminal/output.ts';
import { bold, dim, red } from '../../terminal/colours.ts';
import { shortened } from '../../terminal/text.ts';
import { outcomeText } from './show-outcomes.ts';

/** `errata watch`: shows outcomes, versions and dead letters as they are announced. */
export default command({
  usage: 'watch',
  summary: 'follow outcomes and versions live',
  description: `Follows what the system announces: the outcome of each correction, each new version,
each record that could not be read. Ends with Ctrl-C.`,
  examples: `
watch  everything from now on, all lineages
watch --from-beginning --json
  all announcements so far (the newest outcome of each), one JSON object a line`,
  operation: 'follow the stream',
  options: {
    lineage: option('--lineage <name>', 'only this lineage'),
    fromBeginning: flag('--from-beginning', 'include earlier announcements'),
  },
  async run(session, options) {
    const { configuration } = session.connected();
    const lineages = session.lineages(configuration, options.lineage);
    const { output } = session;
    const { tail } = await import('../../../pipelines/kafka/tail.ts');
    await session.withClients(configuration, async ({ cluster, format }) => {
      const reader = await tail(
        cluster,
        lineages,
        {
          from: options.fromBeginning ? 'beginning' : 'end',
          deadLetters: true,
          format,
          onWait: (reason) => output.warning(`${reason}. Still trying.`),
        },
        (event) => output.item(event, () => eventText(output, event, lineages.length > 1)),
      );
      output.note(`Following ${lineages.join(', ')}. Ctrl-C ends it.`);
      try {
        const failure = await untilInterrupted(reader.ended);
        if (failure !== null) throw failure;
      } finally {
        await reader.stop();
      }
    });
  },
});

function eventText(output: Output, event: LineageEvent, several: boolean): string {
  const time = dim(new Date().toISOString().slice(11, 19));
  const begin = several && 'lineage' in event ? `${time} ${event.lineage}` : time;
  const faulty = (what: string, at: { topic: string; partition: number; offset: string }) => {
    const place = `${at.topic}-${at.partition}@${at.offset}`;
    const message = 'message' in event ? shortened(event.message, output.columns - 20) : '';
    return `${begin} ${red(what)} ${place}: ${message}`;
  };
  switch (event.kind) {
    case 'outcome': {
      const id = shortened(event.outcome.revisionId, 40).padEnd(40);
      return `${begin} ${id} ${outcomeText(event)}`;
    }
    case 'version': {
      const { version, added, removed, corrections } = event.version;
      return `${begin} ${bold(`version ${version}`)}  +${added} -${removed}, ${corrections} hold`;
    }
    case 'dead-letter':
      return faulty('dead letter', event.origin);
    case 'unreadable':
      return faulty('unreadable', event);
  }
}
