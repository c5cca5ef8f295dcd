/** Announces outcomes and versions on their topics. */
import type { Announcer } from '../../activities/announce.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import type { RecordFormat } from './record-format.ts';
import type { RecordSender } from './records.ts';
import { topicsOf } from './topics.ts';

export function announcerTo(sender: RecordSender, format: RecordFormat): Announcer {
  return {
    async announceVersion(version) {
      const topic = topicsOf(version.lineage).versions;
      const encoder = await format.encoder('hook-version', topic);
      await sender.send(topic, [{ key: String(version.version), value: encoder.encode(version) }]);
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
 * Returns the key of an outcome: the revision's id. A duplicate has a separate key, or compaction
 * would delete the outcome of the first record.
 */
export function outcomeKey({ revisionId, status, position }: Outcome): string {
  const { partition, offset } = position;
  return status === 'DUPLICATE' ? `${revisionId}@${partition}-${offset}` : revisionId;
}
