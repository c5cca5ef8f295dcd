import type { FactRevision } from '../../../schemas/correction.ts';
import { parser, timeSpan } from '../../input/option-values.ts';
import { command, option } from '../../session/command.ts';
import type { Opened } from '../../session/session.ts';
import { CommandFailure, misused } from '../../terminal/command-failure.ts';
import { repairsOf, RESUBMIT_OPTIONS, resubmitItems } from './resubmit-items.ts';

const UNITS_MS = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `errata resubmit quarantined`: sends quarantined corrections again. */
export default command({
  usage: 'quarantined [ids...]',
  summary: 'send quarantined corrections again, repaired or as they were',
  description: `Sends quarantined corrections again: those that are named, or all that --code,
--since and --batch select. Each is read from its record in Kafka, or where Kafka no longer has it,
from the history of its batch. It is repaired by --set or --file, or sent as it was, under a new id
(\`c\` as \`c~2\`), since an id is decided once. Repeating a resubmission has no further effect.`,
  examples: `
resubmit quarantined treaty-2026-03 --set target=Geneva --wait
  one, repaired; stays until it is decided
resubmit quarantined --code not-effective --since 2026-03-01 --dry-run
  what would be sent, and its likely outcome`,
  operation: 'resubmit quarantined corrections',
  options: {
    ...RESUBMIT_OPTIONS,
    code: option('--code <code>', 'with this reason: not-effective, verdict, contradiction, …'),
    since: option(
      '--since <time>',
      'decided since: a date, a time, or how long ago (90m, 12h, 3d)',
      parser(
        'a date (2026-03-01), a time (2026-03-01T12:00Z), or a number and m, h or d',
        (text) => {
          const span = timeSpan(text, UNITS_MS);
          if (span !== undefined) return Date.now() - span;
          const time = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : NaN;
          return Number.isNaN(time) ? undefined : time;
        },
      ),
    ),
    batch: option('--batch <batch>', 'of this batch: its number or its id'),
  },
  async run(session, options, named) {
    const { configuration } = session.connected();
    const opened = session.open(options.lineage, configuration);
    const { lineage, log } = opened;
    const repairs = await repairsOf(session, options);
    const ids = named.length > 0 ? named : [...repairs.keys()].filter((id) => id !== '*');
    const { code = null, since = null, batch = null, by } = options;
    if (ids.length === 0 && [code, since, batch].every((one) => one === null))
      throw misused(
        'no correction is selected',
        'Name ids, or select with --code, --since or --batch; `errata failures` lists the ' +
          'quarantined corrections.',
      );
    const { planQuarantined } = await import('../../../operations/resubmit/quarantined.ts');
    return await session.withClients(configuration, async (clients) => {
      const { cluster, format } = clients;
      const items = await planQuarantined({
        log,
        cluster,
        format,
        choice: { ids, code, since, batch },
        repairs,
        fromHistory: (batchId) => revisionsOfBatch(opened, batchId),
        by,
        now: Date.now(),
      });
      return await resubmitItems(session.output, { clients, lineage }, items, options);
    });
  },
});

/** Returns the batch as its workflow received it; null if its history is lost. */
async function revisionsOfBatch(
  opened: Opened,
  batchId: string,
): Promise<readonly FactRevision[] | null> {
  const { findRun, timelineOfRun } = await import('../../session/run-history.ts');
  const { workflowOfBatch } = await import('../../../pipelines/temporal/temporal-runs.ts');
  const workflowId = workflowOfBatch(opened.lineage, batchId);
  if (workflowId === null) return null;
  try {
    const found = await findRun(opened, { workflowId, runId: null });
    const [started] = await timelineOfRun(opened.configuration, found);
    const { revisions } = (started?.detail ?? {}) as { revisions?: FactRevision[] };
    return Array.isArray(revisions) ? revisions : null;
  } catch (fault) {
    if (fault instanceof CommandFailure) return null;
    throw fault;
  }
}
