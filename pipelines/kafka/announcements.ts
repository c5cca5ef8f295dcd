/** Outcomes and versions onto their topics. */
import type { Announcer } from '../../activities/announce.ts';
import type { Outcome } from '../../schemas/editing.ts';
import type { RecordSender } from './kafka.ts';
import type { RecordFormat } from './record-format.ts';
import { topicsOf } from './topics.ts';

export function announcerTo(sender: RecordSender, format: RecordFormat): Announcer {
  return {
    async announceVersion(version) {
      const { versions } = topicsOf(version.lineage);
      const encoder = await format.encoder('hook-version', versions);
      await sender.send(versions, [
        { key: String(version.version), value: encoder.encode(version) },
      ]);
    },
    async announceOutcomes(lineage, outcomes) {
      const topic = topicsOf(lineage).outcomes;
      const encoder = await format.encoder('correction-outcome', topic);
      await sender.send(
        topic,
        outcomes.map((outcome) => ({ key: outcomeKey(outcome), value: encoder.encode(outcome) })),
      );
    },
  };
}

/**
 * The revision's id. A duplicate has a key of its own, or compaction would forget what became of
 * the first record.
 */
export function outcomeKey(outcome: Outcome): string {
  const { partition, offset } = outcome.position;
  return outcome.status === 'DUPLICATE'
    ? `${outcome.revisionId}@${partition}-${offset}`
    : outcome.revisionId;
}
