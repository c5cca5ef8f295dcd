import { command, flag } from '../../session/command.ts';
import { misused } from '../../terminal/command-failure.ts';
import { repairsOf, RESUBMIT_OPTIONS, resubmitItems } from './resubmit-items.ts';

/** `errata resubmit dead-letters`: sends unreadable records again. */
export default command({
  usage: 'dead-letters [letters...]',
  summary: 'send dead letters again, repaired or as they were',
  description: `Sends dead letters again: those that are named by partition and offset on the
dead-letter topic, or with --all every open one. A repaired letter is a correction that names the
record it repairs; one without a repair is sent byte for byte, with its headers. One that would
fail again needs --as-is. Letters that were fixed or decided since are skipped. In --file,
\`replayOf\` is \`<partition>@<offset>\` or \`record:<topic>-<partition>@<offset>\`.`,
  examples: `
resubmit dead-letters 0@17 --set prompt="The capital of Oz is" --wait
  one, repaired
resubmit dead-letters --all --dry-run  why each would fail again, or its likely outcome`,
  operation: 'resubmit dead letters',
  options: {
    ...RESUBMIT_OPTIONS,
    all: flag('--all', 'all open letters'),
    asIs: flag('--as-is', 'send also what would fail again'),
  },
  async run(session, options, named) {
    const { configuration } = session.connected();
    const { lineage, log } = session.open(options.lineage, configuration);
    const repairs = await repairsOf(session, options);
    const { all, asIs, by } = options;
    const inFile = [...repairs.keys()].filter((key) => key !== '*');
    const byRecord = inFile.some((key) => key.startsWith('record:'));
    const places = named.length > 0 ? named : inFile.filter((key) => !key.startsWith('record:'));
    if (places.length === 0 && !all && !byRecord)
      throw misused(
        'no letter is selected',
        'Name letters as <partition>@<offset>, or give --all; `errata failures` lists them.',
      );
    const letters = all || byRecord ? null : places.map(letterNamed);
    const { planDeadLetters } = await import('../../../operations/resubmit/dead-letters.ts');
    return await session.withClients(configuration, async (clients) => {
      const { cluster, format } = clients;
      const only = all ? null : new Set(inFile);
      const request = { log, cluster, format, letters, repairs, only, asIs, by, now: Date.now() };
      const items = await planDeadLetters(request);
      return await resubmitItems(session.output, { clients, lineage }, items, options);
    });
  },
});

function letterNamed(text: string): { partition: number; offset: string } {
  const [, partition, offset] = /^(\d{1,10})@(\d{1,19})$/.exec(text) ?? [];
  if (partition !== undefined && offset !== undefined)
    return { partition: Number(partition), offset };
  throw misused(
    `"${text}" is not a letter`,
    'A letter is named by its partition and offset on the dead-letter topic: 0@17.',
  );
}
