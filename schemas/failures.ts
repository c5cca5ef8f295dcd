/**
 * Failures that cross a boundary, and the list of those that are not worth a retry. All others are
 * retried: an outage passes, and must not cost a correction. The lists name classes because a
 * failure reaches a workflow as a name (Temporal uses an error's name as its type).
 */

export type FailureFacts = Record<string, string | number | boolean | null | string[]>;

/** A broken assumption, with what was seen (`facts`) and what an operator can do (`hint`). */
export abstract class ErrataFailure extends Error {
  readonly facts: FailureFacts;
  readonly hint: string;

  constructor(message: string, facts: FailureFacts, hint: string, options?: ErrorOptions) {
    super(message, options);
    this.facts = facts;
    this.hint = hint;
  }
}

/** Returns the failure's message, followed by its hint if it has one. */
export function reasonAndHint(fault: unknown): string {
  const reason = messageOf(fault);
  return fault instanceof ErrataFailure ? `${reason}. ${fault.hint}` : reason;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The bytes of a record do not match their schema. `at` is the field, as in `paraphrases[2]`. */
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
      'Records are Avro with the single-object head (0xC3 0x01 and the fingerprint of a schema ' +
        "in schemas/) or, with a schema registry, with 0x00 and the schema's id.",
    );
    this.problem = problem;
  }
}

/** A value to write does not match its schema, which is a bug in the program. */
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

/** The registry refuses a schema, usually because it could not read older records. */
export class SchemaRefused extends ErrataFailure {
  override readonly name = 'SchemaRefused';
  constructor(subject: string, reason: string, status: number) {
    super(
      `the schema registry refuses the schema of ${subject}: ${reason}`,
      { subject, reason, status },
      status === 401 || status === 403
        ? 'Check ERRATA_SCHEMA_REGISTRY_USERNAME, ERRATA_SCHEMA_REGISTRY_PASSWORD and the rights ' +
            'of that user.'
        : 'Check what is registered under the subject, and its compatibility level; ' +
            'docs/schemas.md says what is registered.',
    );
  }
}

/** The schema registry gives no useful answer. This is not the record's fault, so it is retried. */
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

/** A payload exceeds Temporal's or Kafka's bound. If sent, it would be retried forever. */
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

/** The webhook did not accept an alert. It is retried, then dropped; the lineage does not wait. */
export class AlertUndelivered extends ErrataFailure {
  override readonly name = 'AlertUndelivered';
  constructor(alert: string, reason: string) {
    super(
      `the alert ${alert} is not delivered: ${reason}`,
      { alert, reason },
      'Check ERRATA_ALERT_URL of the workflow worker, and its receiver.',
    );
  }
}

/** The files that a batch staged are gone; its workflow plans again. */
export const STAGING_GONE = 'StagingGone';

/** Failures that recur with the same input. */
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
 * Failures that every batch would hit and that no correction causes. They stop the lineage, which
 * keeps its corrections instead of quarantining one after another.
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

/** Tells whether a retry may help; unknown failures are retried. */
export function isWorthARetry(failure: unknown): boolean {
  return !(failure instanceof Error && NOT_WORTH_A_RETRY.includes(failure.name));
}
