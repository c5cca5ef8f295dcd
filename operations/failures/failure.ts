/**
 * All kinds of failures, each with its facts, its cause in words, and the command that fixes it.
 */

/** Facts by kind; `ended` gives how and why a workflow ended. */
export interface FailureFacts {
  'damaged log': { problem: string };
  frozen: { reason: string; held: { revisions: number; attempts: number } | null; waiting: number };
  'lineage ended': { ended: string };
  batch: { workflowId: string; ended: string };
  undo: { workflowId: string; ended: string };
  activity: { workflowId: string; className: string; problem: string };
  'no worker': { waiting: string | null; process: string; seconds: number };
  'workflow step': { workflowId: string; attempts: number };
  quarantined: { id: string; reason: string | null; code?: number | string; batchId: string };
  'dead letter': { letter: string; problem: string; repair: string };
  'topic made anew': { taken: string; end: string };
  ingest: { lag: number; isRead: boolean };
}

export type FailureKind = keyof FailureFacts;

export interface Failure {
  lineage: string;
  kind: FailureKind;
  /** The correction, batch, activity or position that failed. */
  subject: string;
  /** Milliseconds since 1970; null if unknown. */
  since: number | null;
  cause: string;
  measured?: Record<string, number | string>;
  /** The command that fixes it. */
  heal: string;
}

export interface Findings {
  failures: Failure[];
  /** The places that could not be searched, with the reasons. */
  unseen: string[];
  /** Number of failures beyond those listed. */
  more: number;
  /** Number of failures found that were fixed since. */
  healed: number;
}

export function nothingFound(): Findings {
  return { failures: [], unseen: [], more: 0, healed: 0 };
}

export function together(findings: readonly Findings[]): Findings {
  return {
    failures: findings.flatMap(({ failures }) => failures),
    unseen: findings.flatMap(({ unseen }) => unseen),
    more: findings.reduce((sum, { more }) => sum + more, 0),
    healed: findings.reduce((sum, { healed }) => sum + healed, 0),
  };
}

/** Makes a failure from its facts. */
export function failure<Kind extends FailureKind>(
  about: Pick<Failure, 'lineage' | 'subject' | 'since' | 'measured'>,
  kind: Kind,
  facts: FailureFacts[Kind],
): Failure {
  const { lineage, subject, since, ...measured } = about;
  const [cause, heal] = KINDS[kind](facts, lineage);
  return { lineage, kind, subject, since, cause, heal, ...measured };
}

/** The cause in words and the command, by kind. */
const KINDS: {
  [Kind in FailureKind]: (facts: FailureFacts[Kind], lineage: string) => [string, string];
} = {
  'damaged log': ({ problem }, lineage) => [problem, `errata verify --lineage ${lineage}`],
  frozen: ({ reason, held, waiting }, lineage) => [
    reason +
      (held === null
        ? ''
        : `; the batch is held, with ${held.revisions} revisions, ` +
          `after ${held.attempts} attempts`) +
      `; ${waiting} wait`,
    `errata resume --lineage ${lineage}`,
  ],
  'lineage ended': ({ ended }, lineage) => [
    `the workflow ${ended}`,
    `errata replay lineage --lineage ${lineage}`,
  ],
  batch: ({ workflowId, ended }, lineage) => [
    `${workflowId} ${ended}`,
    `errata replay batch ${workflowId.split('/').at(-1)!} --lineage ${lineage}`,
  ],
  undo: ({ workflowId, ended }, lineage) => [
    ended,
    `errata replay batch ${workflowId} --lineage ${lineage}`,
  ],
  activity: ({ workflowId, className, problem }, lineage) => [
    problem,
    FIXES[className]?.(lineage) ?? `errata history ${workflowId} --lineage ${lineage}`,
  ],
  'no worker': ({ waiting, process, seconds }) => [
    (waiting === null ? '' : `${waiting}: `) +
      `no ${process} asked for work in the last ${seconds} s`,
    'errata up',
  ],
  'workflow step': ({ workflowId, attempts }, lineage) => [
    `its next step failed ${attempts} times: ` +
      "the workers' release may not be the one that it began with",
    workflowId.startsWith('lineage/')
      ? `errata replay lineage --lineage ${lineage}`
      : `errata replay batch ${workflowId} --lineage ${lineage}`,
  ],
  quarantined: ({ id, reason, code, batchId }, lineage) => [
    (reason ?? 'no reason was given') +
      `${code === undefined ? '' : ` (${code})`}, in batch ${batchId}`,
    `errata resubmit quarantined ${shellWord(id)} --lineage ${lineage}` +
      // A retraction has nothing to repair.
      (id.startsWith('retract:') ? '' : ' --set target=...'),
  ],
  'dead letter': ({ letter, problem, repair }, lineage) => [
    problem,
    `errata resubmit dead-letters ${letter} --lineage ${lineage}${repair}`,
  ],
  'topic made anew': ({ taken, end }, lineage) => [
    `offset ${taken} was taken, and the partition ends at ${end}: the topic was deleted and ` +
      'created again, and its new records are refused',
    `errata replay forget-positions --lineage ${lineage}`,
  ],
  ingest: ({ lag, isRead }) =>
    isRead
      ? [`${lag} records wait: more arrive than are edited, or batches fail`, 'errata status']
      : [`${lag} records wait, and no ingest reads them`, 'errata up'],
};

/** Commands that fix an activity's repeated failure, by the failure's class. */
const FIXES: Partial<Record<string, (lineage: string) => string>> = {
  BaseChanged: (lineage) =>
    'errata up (with the ERRATA_MODEL and hyper-parameters that ' +
    `\`errata show head --lineage ${lineage}\` names)`,
  VersionLogDamaged: (lineage) => `errata verify --lineage ${lineage}`,
  BlobMissing: (lineage) => `errata verify --lineage ${lineage}`,
  StoreUnavailable: () => 'errata doctor',
  StoreRefused: () => 'errata doctor',
  ChannelRefused: () => 'errata doctor',
  PayloadUnreadable: () =>
    'errata up (with every key of ERRATA_TEMPORAL_PAYLOAD_KEYS that is still in use)',
  SchemaRegistryUnavailable: () => 'errata status',
  Timeout: () => 'errata status',
};

/** Quotes a text unless a shell reads it as one word. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./~-]+$/.test(text) && !text.startsWith('~')
    ? text
    : `'${text.replaceAll("'", `'\\''`)}'`;
}
