/** Outcomes and versions onto their topics. */
import type { Announcer } from '../activities/announce.ts';
import { recordCodec } from '../schemas/avro.ts';
import type { Outcome } from '../schemas/editing.ts';
import type { RecordSender } from './kafka.ts';
import { topicsOf } from './topics.ts';

export function announcerTo(sender: RecordSender): Announcer {
  const outcomeCodec = recordCodec('correction-outcome');
  const versionCodec = recordCodec('hook-version');
  return {
    async announceVersion(version) {
      await sender.send(topicsOf(version.lineage).versions, [{ key: String(version.version), value: versionCodec.encode(version) }]);
    },
    async announceOutcomes(lineage, outcomes) {
      await sender.send(topicsOf(lineage).outcomes, outcomes.map((outcome) => ({ key: outcomeKey(outcome), value: outcomeCodec.encode(outcome) })));
    },
  };
}

/** The revision's id. A duplicate has a key of its own, or compaction would forget what became of the first record. */
export function outcomeKey(outcome: Outcome): string {
  const { partition, offset } = outcome.position;
  return outcome.status === 'DUPLICATE' ? `${outcome.revisionId}@${partition}-${offset}` : outcome.revisionId;
}
