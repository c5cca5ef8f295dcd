/**
 * The settings of a lineage: `ERRATA_X` is for all lineages, `ERRATA_<LINEAGE>_X` for one. In the
 * file, the former are at the top level, the latter under `lineage.<name>`.
 */
import { DEFAULT_LINEAGE_SETTINGS, type LineageSettings } from '../../schemas/settings.ts';
import { choice, decimal, flag, integer, share, type Form } from './setting-forms.ts';
import { variableOf, type Setting } from './settings.ts';

const ROWS: Record<string, [form: Form<unknown>, meaning: string]> = {
  'batch.batchEditsMax': [integer(1, 10_000), 'A batch starts when this many corrections wait.'],
  'batch.batchWaitMs': [
    integer(0, 86_400_000),
    'A batch also starts when the oldest correction has waited this long, in milliseconds.',
  ],
  'batch.bufferEditsMax': [
    integer(1, 100_000),
    'Ingest pauses while more corrections than this wait.',
  ],
  'batch.bufferBytesMax': [
    integer(65_536, 1_500_000),
    "Ingest pauses while more bytes than this wait; the limit is below Temporal's for a payload.",
  ],
  'batch.shardEditsMax': [
    integer(1, 10_000),
    'The number of corrections whose targets one activity computes.',
  ],
  'verdict.requireEffective': [
    flag,
    `Whether to quarantine a correction if the edited model does not answer with it, or if it
     breaks the answer of an earlier correction about its subject.`,
  ],
  'verdict.generalisationMin': [share, 'The least share of paraphrases that must hold.'],
  'verdict.localityMin': [
    share,
    'The least share of neighbourhood prompts whose answer must stay the same.',
  ],
  'verdict.retentionMin': [share, 'The least share of earlier corrections that must still hold.'],
  'verdict.canaryRatioMax': [
    decimal(1, 100),
    "The greatest ratio of the perplexity on ordinary text to the base model's.",
  ],
  'verdict.editNormMax': [
    decimal(0, 1_000),
    'The greatest |W_h - W0| / |W0| in any layer and the map of any subject.',
  ],
  'verdict.retentionSample': [
    integer(0, 10_000),
    'The number of earlier corrections that are probed again with each batch.',
  ],
  'failures.batchAttemptsMax': [
    integer(1, 100),
    `How often a batch's workflow is tried when it fails. Waiting for Kafka, Temporal, a store or a
     worker is not a failure.`,
  ],
  'failures.retryWaitMs': [
    integer(100, 86_400_000),
    'The wait before the second try, in milliseconds; it doubles before each further try.',
  ],
  'failures.editAttemptsMax': [
    integer(0, 10_000),
    `How often a batch that fails its verdict, and its halves, may be staged and probed; what is
     then undecided is quarantined together. With 0 or 1 the batch is not halved.`,
  ],
  'failures.whenUsedUp': [
    choice('freeze', 'quarantine'),
    `What happens to a batch after its last try: \`freeze\` keeps it and stops the lineage until
     \`errata resume\`; \`quarantine\` quarantines its revisions with the cause, and the lineage
     continues.`,
  ],
  'failures.quarantinedMax': [
    integer(0, 10_000),
    'The lineage freezes after a batch with more quarantined corrections than this; 0: never.',
  ],
  'failures.alert': [
    flag,
    `Whether \`ERRATA_ALERT_URL\` is notified of batches that failed or were given up, and of a
     lineage that froze on its own.`,
  ],
};

const OTHER_NAMES = {
  retryWaitMs: 'ERRATA_BATCH_RETRY_WAIT_MS',
  whenUsedUp: 'ERRATA_WHEN_TRIES_ARE_USED_UP',
  quarantinedMax: 'ERRATA_FREEZE_PAST_QUARANTINED',
};

/** Returns the group and the name that a path such as `batch.batchWaitMs` leads to. */
export function groupOf(
  settings: LineageSettings,
  path: string,
): [Record<string, unknown>, string] {
  const [group, name] = path.split('.') as [keyof LineageSettings, string];
  return [settings[group] as unknown as Record<string, unknown>, name];
}

export const LINEAGE_SETTINGS: Record<string, Setting<unknown>> = Object.fromEntries(
  Object.entries(ROWS).map(([path, [form, text]]) => {
    const [group, name] = groupOf(DEFAULT_LINEAGE_SETTINGS, path);
    const variable = variableOf(name, OTHER_NAMES);
    const meaning = text.replace(/\s+/g, ' ');
    return [path, { variable, form, default: group[name], meaning }];
  }),
);
