import { InvalidArgumentError } from 'commander';
import { attached } from '../../../infra/local/system-state.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import type { Configuration } from '../../../infra/config/configuration.ts';
import type { FactRevision } from '../../../schemas/correction.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, type CommandSpecification } from '../../session/command.ts';
import {
  replayingFlags,
  replayItems,
  repairsOf,
  type ReplayingOptions,
} from '../../session/replaying.ts';
import type { Versions } from '../../../versions/versions.ts';

interface Options extends ReplayingOptions {
  code?: string;
  since?: number;
  batch?: string;
}

/** `errata replay quarantined`: corrections that were quarantined, sent again. */
const quarantined: CommandSpecification<Options> = {
  usage: 'quarantined [ids...]',
  summary: 'send quarantined corrections again, repaired or as they were',
  description: `Sends corrections that were quarantined again: those that are named, or all that --code, --since and --batch choose. Each is read from its record in Kafka (or, where Kafka has dropped it, from the history of its batch), repaired by --set or --file, and sent under a new id (\`c\` as \`c~2\`, \`c~2\` as \`c~3\`), since an id is decided once. What it is a replay of travels with it into its version, and its source says who replayed it. The same replay has the same id each time, so that doing it twice is doing it once.
Without a repair it is sent as it was: for when thresholds, the model or what it contradicts have changed.`,
  examples: [
    [
      'replay quarantined treaty-2026-03 --set target=Geneva --wait',
      'one, repaired; stays until it is decided',
    ],
    [
      'replay quarantined --code not-effective --since 2026-03-01 --dry-run',
      'what would be sent, and what would likely become of it',
    ],
    [
      'replay quarantined --file repaired.ndjson',
      'many: each line has `replayOf` and the members that change',
    ],
    ['replay quarantined --batch 12', 'all that batch 12 quarantined, as they were'],
  ],
  operation: 'replay quarantined corrections',
  options: (command) =>
    replayingFlags(
      command
        .option('--code <code>', 'with this reason: not-effective, verdict, contradiction, …')
        .option(
          '--since <time>',
          'decided since: a date, a time, or so long ago (90m, 12h, 3d)',
          timeNamed,
        )
        .option('--batch <batch>', 'of this batch: its number or its id'),
    ),
  async run(session, options, ids) {
    const { configuration } = session.connected(quarantined.operation);
    const lineage = session.lineage(configuration, options.lineage);
    const repairs = await repairsOf(session, options);
    const chosen = ids.length > 0 ? ids : [...repairs.keys()].filter((id) => id !== '*');
    if (
      chosen.length === 0 &&
      options.code === undefined &&
      options.since === undefined &&
      options.batch === undefined
    ) {
      throw new CommandFailure(
        quarantined.operation,
        'it is not said which',
        'Name ids, or choose with --code, --since or --batch; `errata failures` lists what was quarantined.',
        EXIT.usage,
      );
    }
    const versions = openVersions(configuration);
    const { planQuarantined } = await import('../../../operations/resubmit/quarantined.ts');
    const clients = (await import('../../session/clients.ts')).clientsOf(configuration);
    try {
      const items = await planQuarantined({
        log: versions.log(lineage),
        cluster: clients.cluster,
        format: clients.format,
        choice: {
          ids: chosen,
          code: options.code ?? null,
          since: options.since ?? null,
          batch: options.batch ?? null,
        },
        repairs,
        fromHistory: (batchId) =>
          revisionsOfBatch(
            attached(configuration, session.system(configuration)),
            versions,
            lineage,
            batchId,
          ),
        by: options.by,
        now: Date.now(),
      });
      return await replayItems(session, clients, lineage, items, options);
    } finally {
      await clients.close();
    }
  },
};

export default quarantined;

/**
 * What the batch's workflow was given; null where neither Temporal nor the archive has its history.
 */
async function revisionsOfBatch(
  configuration: Configuration,
  versions: Versions,
  lineage: string,
  batchId: string,
): Promise<readonly FactRevision[] | null> {
  const { findRun, timelineOfRun } = await import('../../session/run-history.ts');
  const { workflowOfBatch } = await import('../../../pipelines/temporal/temporal-runs.ts');
  const workflowId = workflowOfBatch(lineage, batchId);
  if (workflowId === null) return null;
  try {
    const [started] = await timelineOfRun(
      configuration,
      await findRun({ configuration, versions, lineage }, { workflowId, runId: null }),
    );
    const { revisions } = (started?.detail ?? {}) as { revisions?: FactRevision[] };
    return Array.isArray(revisions) ? revisions : null;
  } catch (fault) {
    if (fault instanceof CommandFailure) return null;
    throw fault;
  }
}

const AGO = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

export function timeNamed(text: string): number {
  const [, count, unit] = /^(\d{1,6})([mhd])$/.exec(text) ?? [];
  if (unit !== undefined) return Date.now() - Number(count) * AGO[unit as keyof typeof AGO];
  const time = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : NaN;
  if (Number.isNaN(time))
    throw new InvalidArgumentError(
      'It must be a date (2026-03-01), a time (2026-03-01T12:00Z), or a number and m, h or d.',
    );
  return time;
}
