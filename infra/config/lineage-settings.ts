/**
 * The settings of a lineage: `ERRATA_X` is for all lineages, `ERRATA_<LINEAGE>_X` for one. In the
 * file, those for all are at the top, those for one under `lineage.<name>`.
 */
import { DEFAULT_LINEAGE_SETTINGS, type LineageSettings } from '../../schemas/settings.ts';
import { choice, decimal, flag, integer, share, type Form } from './setting-forms.ts';
import { setting, type Setting } from './settings.ts';

const ROWS: Record<string, [variable: string, form: Form<unknown>, meaning: string]> = {
  'batch.batchEditsMax': [
    'ERRATA_BATCH_EDITS_MAX',
    integer(1, 10_000),
    'A batch starts when this many corrections wait.',
  ],
  'batch.batchWaitMs': [
    'ERRATA_BATCH_WAIT_MS',
    integer(0, 86_400_000),
    'A batch also starts when the oldest correction has waited this long, in milliseconds.',
  ],
  'batch.bufferEditsMax': [
    'ERRATA_BUFFER_EDITS_MAX',
    integer(1, 100_000),
    'Ingest pauses while more corrections than this wait.',
  ],
  'batch.bufferBytesMax': [
    'ERRATA_BUFFER_BYTES_MAX',
    integer(65_536, 1_500_000),
    "Ingest pauses while more bytes than this wait; the limit is below Temporal's for a payload.",
  ],
  'batch.shardEditsMax': [
    'ERRATA_SHARD_EDITS_MAX',
    integer(1, 10_000),
    'The number of corrections whose targets one activity computes.',
  ],
  'verdict.requireEffective': [
    'ERRATA_REQUIRE_EFFECTIVE',
    flag,
    `Whether to quarantine a correction if the edited model does not answer with it, or if it
     breaks the answer of an earlier correction about its subject.`,
  ],
  'verdict.generalisationMin': [
    'ERRATA_GENERALISATION_MIN',
    share,
    'The least share of paraphrases that must hold.',
  ],
  'verdict.localityMin': [
    'ERRATA_LOCALITY_MIN',
    share,
    'The least share of neighbourhood prompts whose answer must stay the same.',
  ],
  'verdict.retentionMin': [
    'ERRATA_RETENTION_MIN',
    share,
    'The least share of earlier corrections that must still hold.',
  ],
  'verdict.canaryRatioMax': [
    'ERRATA_CANARY_RATIO_MAX',
    decimal(1, 100),
    "The greatest ratio of the perplexity on ordinary text to the base model's.",
  ],
  'verdict.editNormMax': [
    'ERRATA_EDIT_NORM_MAX',
    decimal(0, 1_000),
    'The greatest |W_h - W0| / |W0| in any layer and the map of any subject.',
  ],
  'verdict.retentionSample': [
    'ERRATA_RETENTION_SAMPLE',
    integer(0, 10_000),
    'The number of earlier corrections that are probed again with each batch.',
  ],
  'failures.batchAttemptsMax': [
    'ERRATA_BATCH_ATTEMPTS_MAX',
    integer(1, 100),
    `How often a batch's workflow is tried when it fails. Waiting for Kafka, Temporal, a store or a
     worker is not a failure.`,
  ],
  'failures.retryWaitMs': [
    'ERRATA_BATCH_RETRY_WAIT_MS',
    integer(100, 86_400_000),
    'The wait before the second try, in milliseconds; it doubles before each further try.',
  ],
  'failures.editAttemptsMax': [
    'ERRATA_EDIT_ATTEMPTS_MAX',
    integer(0, 10_000),
    `How often a batch that fails its verdict, and its halves, may be staged and probed; what is
     then undecided is quarantined together. With 0 or 1 the batch is not halved.`,
  ],
  'failures.whenUsedUp': [
    'ERRATA_WHEN_TRIES_ARE_USED_UP',
    choice('freeze', 'quarantine'),
    `What happens to a batch after its last try: \`freeze\` keeps it and stops the lineage until
     \`errata resume\`; \`quarantine\` quarantines its revisions with the cause, and the lineage
     continues.`,
  ],
  'failures.quarantinedMax': [
    'ERRATA_FREEZE_PAST_QUARANTINED',
    integer(0, 10_000),
    'The lineage freezes after a batch with more quarantined corrections than this; 0: never.',
  ],
  'failures.alert': [
    'ERRATA_ALERT',
    flag,
    `Whether \`ERRATA_ALERT_URL\` is notified of batches that failed or were given up, and of a
     lineage that froze on its own.`,
  ],
};

/** The part of a lineage's settings that a path such as `batch.batchWaitMs` names. */
export function groupOf(
  settings: LineageSettings,
  path: string,
): [Record<string, unknown>, string] {
  const [group, name] = path.split('.') as [keyof LineageSettings, string];
  return [settings[group] as unknown as Record<string, unknown>, name];
}

export const LINEAGE_SETTINGS: Record<string, Setting<unknown>> = Object.fromEntries(
  Object.entries(ROWS).map(([path, [variable, form, meaning]]) => {
    const [group, name] = groupOf(DEFAULT_LINEAGE_SETTINGS, path);
    return [path, setting(variable, form, [group[name]], meaning)];
  }),
);
