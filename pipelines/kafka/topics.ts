/** The topics of a lineage and their configuration. */
import type { TopicSpecification } from './records.ts';

interface LineageTopics {
  /** FactCorrection or null; key: the fact's key. */
  corrections: string;
  /** Refused records of `corrections`, unchanged, with headers that give the reason. */
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

interface TopicSettings {
  partitions: number;
  replicationFactor: number;
}

/** Larger than the corrections topic's bound, since the headers add to a record. */
const DEAD_LETTER_BYTES_MAX = 2_097_152;

/** Specifies the topics of a lineage; existing ones keep their configuration. */
export function topicSpecifications(
  lineage: string,
  settings: TopicSettings,
): TopicSpecification[] {
  const topics = topicsOf(lineage);
  const topic = (
    name: string,
    configuration: Record<string, string>,
    partitions = settings.partitions,
  ) => ({ name, partitions, replicationFactor: settings.replicationFactor, configuration });
  return [
    // The broker recompresses records into a format that our client reads. Otherwise one record
    // could stop ingest.
    topic(topics.corrections, { 'compression.type': 'gzip' }),
    topic(topics.deadLetters, {
      'max.message.bytes': String(DEAD_LETTER_BYTES_MAX),
      'retention.ms': '-1',
    }),
    topic(topics.outcomes, { 'cleanup.policy': 'compact' }),
    // One partition, since followers need versions in order.
    topic(topics.versions, { 'retention.ms': '-1' }, 1),
  ];
}
