/**
 * Failures that cross a boundary, and the one list of which are worth a retry.
 *
 * What is not listed is retried: an outage passes, and a correction must not be given up for one.
 * Names stand for the classes because a failure reaches a workflow as a name (Temporal takes an
 * error's name as its type), and because this file imports nothing of ours.
 */

export type FailureFacts = Record<string, string | number | boolean | null | string[]>;

/** A broken assumption: what was seen (`facts`) and what an operator may do about it (`hint`). */
export abstract class ErrataFailure extends Error {
  readonly facts: FailureFacts;
  readonly hint: string;

  constructor(message: string, facts: FailureFacts, hint: string, options?: ErrorOptions) {
    super(message, options);
    this.facts = facts;
    this.hint = hint;
  }
}

/** The reason for an operator, followed by the hint of what fixes it, where the failure has one. */
export function reasonAndHint(fault: unknown): string {
  const reason = messageOf(fault);
  return fault instanceof ErrataFailure ? `${reason}. ${fault.hint}` : reason;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * The bytes of a record are not what their schema says. `at` is the field, as in `paraphrases[2]`.
 */
export class UndecodableRecord extends ErrataFailure {
  override readonly name = 'UndecodableRecord';
  readonly problem:
    | 'empty'
    | 'not-framed'
    | 'unknown-schema'
    | 'wrong-record'
    | 'truncated'
    | 'trailing-bytes'
    | 'bad-value';
  constructor(problem: UndecodableRecord['problem'], message: string, facts: FailureFacts = {}) {
    super(
      message,
      { problem, ...facts },
      "Records are Avro with the single-object head (0xC3 0x01 and the fingerprint of a schema in schemas/) or, with a schema registry, with 0x00 and the schema's id.",
    );
    this.problem = problem;
  }
}

/**
 * A value was to be written that its schema does not allow: a mistake of the program that wrote it.
 */
export class UnencodableRecord extends ErrataFailure {
  override readonly name = 'UnencodableRecord';
  constructor(record: string, faults: string[]) {
    super(
      `not a ${record}: ${faults.join('; ')}`,
      { record, faults },
      'Check the value with faultsOf() before it is sent.',
    );
  }
}

/**
 * The schema registry does not take a schema: its own reason, most often that older records could
 * not be read with it.
 */
export class SchemaRefused extends ErrataFailure {
  override readonly name = 'SchemaRefused';
  constructor(subject: string, reason: string, status: number) {
    super(
      `the schema registry refuses the schema of ${subject}: ${reason}`,
      { subject, reason, status },
      status === 401 || status === 403
        ? 'Look at ERRATA_SCHEMA_REGISTRY_USERNAME and ERRATA_SCHEMA_REGISTRY_PASSWORD, and at what that user may do there.'
        : 'See what is registered under the subject, and at which compatibility level; docs/schemas.md says what is registered.',
    );
  }
}

/**
 * The schema registry gives no answer that is of use. It says nothing about a record: whoever needs
 * the answer waits.
 */
export class SchemaRegistryUnavailable extends ErrataFailure {
  override readonly name = 'SchemaRegistryUnavailable';
  constructor(url: string, reason: string, status: number | null) {
    super(
      `the schema registry at ${url} gives no answer: ${reason}`,
      { url, reason, status },
      'Check ERRATA_SCHEMA_REGISTRY_URL, its user and password, and whether the registry runs.',
    );
  }
}

/**
 * A payload would pass Temporal's or Kafka's bound; sent anyway it would be retried without end.
 */
export class PayloadTooLarge extends ErrataFailure {
  override readonly name = 'PayloadTooLarge';
  constructor(what: string, bytes: number, bytesMax: number) {
    super(
      `${what} has ${bytes} bytes, at most ${bytesMax} are allowed`,
      { what, bytes, bytesMax },
      'Lower the batch size or the buffer bound of the lineage.',
    );
  }
}

/**
 * The webhook did not take an alert. It is tried again, and in the end given up: the lineage does
 * not wait for it.
 */
export class AlertUndelivered extends ErrataFailure {
  override readonly name = 'AlertUndelivered';
  constructor(alert: string, reason: string) {
    super(
      `the alert ${alert} is not delivered: ${reason}`,
      { alert, reason },
      'Look at ERRATA_ALERT_URL of the workflow worker, and at what is behind it.',
    );
  }
}

/** What a batch staged is gone: its plan has to be made again, which the batch's workflow does. */
export const STAGING_GONE = 'StagingGone';

/** Failures that the same input meets again, however often it is tried. */
export const NOT_WORTH_A_RETRY: readonly string[] = [
  // Records and payloads.
  'UndecodableRecord',
  'UnencodableRecord',
  'PayloadTooLarge',
  // The version log.
  'VersionLogDamaged',
  'EntryRefused',
  'BlobMissing',
  STAGING_GONE,
  'VersionUnknown',
  'ObjectNameInvalid',
  'StoreUnfit',
  // The checkpoint and the mathematics.
  'CheckpointFault',
  'UnreadableCheckpoint',
  'UnsupportedCheckpoint',
  'MissingTensor',
  'MalformedSafetensors',
  'NotPositiveDefinite',
  'ConfigurationError',
];

/**
 * Failures that are no correction's fault and that every batch would meet: they stop a lineage,
 * with its corrections kept, instead of sending one after the other into quarantine.
 */
export const STOPS_A_LINEAGE: readonly string[] = [
  'VersionLogDamaged',
  'EntryRefused',
  'BlobMissing',
  'VersionUnknown',
  'ObjectNameInvalid',
  'StoreUnfit',
  'MalformedSafetensors',
  'PayloadTooLarge',
];

/** Whether trying again may help; an unknown failure is tried again. */
export function isWorthARetry(failure: unknown): boolean {
  return !(failure instanceof Error && NOT_WORTH_A_RETRY.includes(failure.name));
}
