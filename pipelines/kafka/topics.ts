/** The topics of a lineage and how they are configured. */
import type { TopicSpecification } from './records.ts';

export interface LineageTopics {
  /** FactCorrection or null; key: the fact's key. */
  corrections: string;
  /** Records of `corrections` that cannot be taken, as they were, with headers that say why. */
  deadLetters: string;
  /** CorrectionOutcome, compacted; key: the revision's id. */
  outcomes: string;
  /** HookVersion; key: the version. */
  versions: string;
}

export function topicsOf(lineage: string): LineageTopics {
  return {
    corrections: `errata.${lineage}.corrections`,
    deadLetters: `errata.${lineage}.corrections.dlq`,
    outcomes: `errata.${lineage}.outcomes`,
    versions: `errata.${lineage}.versions`,
  };
}

/** The one consumer group of all ingest processes. */
export const INGEST_GROUP = 'errata-ingest';

export interface TopicSettings {
  partitions: number;
  replicationFactor: number;
}

/**
 * Larger than the corrections topic's bound by what the headers add, so that nothing which came in
 * fails to go out.
 */
const DEAD_LETTER_BYTES_MAX = 2_097_152;

/** What the topics of a lineage are created with. Those that exist already stay as they are. */
export function topicSpecifications(
  lineage: string,
  settings: TopicSettings,
): TopicSpecification[] {
  const topics = topicsOf(lineage);
  const { partitions, replicationFactor } = settings;
  return [
    // Producers may compress as they like; the broker turns it into what our client can read, or
    // one record would stop ingest.
    {
      name: topics.corrections,
      partitions,
      replicationFactor,
      configuration: { 'compression.type': 'gzip' },
    },
    {
      name: topics.deadLetters,
      partitions,
      replicationFactor,
      configuration: { 'max.message.bytes': String(DEAD_LETTER_BYTES_MAX), 'retention.ms': '-1' },
    },
    {
      name: topics.outcomes,
      partitions,
      replicationFactor,
      configuration: { 'cleanup.policy': 'compact' },
    },
    // One partition: versions are a sequence, and whoever follows them needs it in order.
    {
      name: topics.versions,
      partitions: 1,
      replicationFactor,
      configuration: { 'retention.ms': '-1' },
    },
  ];
}
