import { openVersions } from '../../../infra/config/open-versions.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, type CommandSpecification } from '../../session/command.ts';
import {
  replayingFlags,
  replayItems,
  repairsOf,
  type ReplayingOptions,
} from '../../session/replaying.ts';

interface Options extends ReplayingOptions {
  all?: boolean;
  asIs?: boolean;
}

/** `errata replay dead-letters`: records that could not be taken, sent again. */
const deadLetters: CommandSpecification<Options> = {
  usage: 'dead-letters [letters...]',
  summary: 'send dead letters again, repaired or as they were',
  description: `Sends records that could not be taken again: the letters that are named by partition and offset on the dead-letter topic, or --all that are not healed. A repaired one is a correction that names the record it repairs, so that \`errata failures\` knows it healed once it is committed; it keeps its id, which was never decided. A letter without a repair is sent as it is, byte for byte and with its headers, for when the cause is gone; one that would die again needs --as-is. Those that were healed or decided since are passed over.`,
  examples: [
    ['replay dead-letters 0@17 --set prompt="The capital of Oz is" --wait', 'one, repaired'],
    ['replay dead-letters --all --dry-run', 'why each would die again, or what would become of it'],
    [
      'replay dead-letters --all',
      'as they were: the schema registry had lost a schema, and has it again',
    ],
    [
      'replay dead-letters --file repaired.ndjson',
      'many: `replayOf` is `<partition>@<offset>` of the letter, or `record:<topic>-<partition>@<offset>`',
    ],
  ],
  operation: 'replay dead letters',
  options: (command) =>
    replayingFlags(
      command
        .option('--all', 'all letters that are not healed')
        .option('--as-is', 'send also what would die again'),
    ),
  async run(session, options, named) {
    const { configuration } = session.connected(deadLetters.operation);
    const lineage = session.lineage(configuration, options.lineage);
    const repairs = await repairsOf(session, options);
    const inFile = [...repairs.keys()].filter((key) => key !== '*');
    const ofRecords = inFile.some((key) => key.startsWith('record:'));
    const places = named.length > 0 ? named : inFile.filter((key) => !key.startsWith('record:'));
    if (places.length === 0 && options.all !== true && !ofRecords)
      throw new CommandFailure(
        deadLetters.operation,
        'it is not said which',
        'Name letters as <partition>@<offset>, or give --all; `errata failures` lists them.',
        EXIT.usage,
      );
    const letters = options.all === true || ofRecords ? null : places.map(letterNamed);
    const { planDeadLetters } = await import('../../../operations/resubmit/dead-letters.ts');
    const clients = (await import('../../session/clients.ts')).clientsOf(configuration);
    try {
      const planned = await planDeadLetters({
        log: openVersions(configuration).log(lineage),
        cluster: clients.cluster,
        format: clients.format,
        letters,
        repairs,
        only: options.all === true ? null : new Set(inFile),
        asIs: options.asIs === true,
        by: options.by,
        now: Date.now(),
      });
      return await replayItems(session, clients, lineage, planned, options);
    } finally {
      await clients.close();
    }
  },
};

export default deadLetters;

function letterNamed(text: string): { partition: number; offset: string } {
  const [, partition, offset] = /^(\d{1,10})@(\d{1,19})$/.exec(text) ?? [];
  if (partition === undefined || offset === undefined)
    throw new CommandFailure(
      deadLetters.operation,
      `"${text}" names no letter`,
      'A letter is named by its partition and offset on the dead-letter topic: 0@17.',
      EXIT.usage,
    );
  return { partition: Number(partition), offset };
}
