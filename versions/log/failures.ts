/** What breaks in the version log. Which of these are worth a retry says schemas/failures.ts. */
import { ErrataFailure } from '../../schemas/failures.ts';

/** The store holds something the format forbids, or lacks something it demands. */
export class VersionLogDamaged extends ErrataFailure {
  override readonly name = 'VersionLogDamaged';
  constructor(lineage: string, objectName: string, what: string) {
    super(
      `Version log of lineage "${lineage}" is damaged at ${objectName}: ${what}`,
      { lineage, objectName, what },
      'Objects are never changed once written, so a copy from a backup or a replica mends the log.',
    );
  }
}

/** An entry was to be appended that the format or the history forbids. */
export class EntryRefused extends ErrataFailure {
  override readonly name = 'EntryRefused';
  constructor(lineage: string, version: number, faults: string[]) {
    super(
      `Version ${version} of lineage "${lineage}" was refused: ${faults.join('; ')}`,
      { lineage, version, faults },
      'The entry was built from an outdated or inconsistent plan; plan the batch again from HEAD.',
    );
  }
}

/** A blob that is named is not there. */
export class BlobMissing extends ErrataFailure {
  override readonly name = 'BlobMissing';
  constructor(lineage: string, hash: string) {
    super(
      `Blob ${hash} of lineage "${lineage}" is not in the store`,
      { lineage, sha256: hash },
      'A blob of a committed version must come from a backup.',
    );
  }
}

/** What a batch staged was discarded, by an earlier run of it that has ended. */
export class StagingGone extends ErrataFailure {
  override readonly name = 'StagingGone';
  constructor(lineage: string, batchId: string) {
    super(
      `What batch "${batchId}" of lineage "${lineage}" staged is gone`,
      { lineage, batchId },
      'Plan the batch again: what it needs is computed anew.',
    );
  }
}

/** A version was asked for that the log does not have. */
export class VersionUnknown extends ErrataFailure {
  override readonly name = 'VersionUnknown';
  constructor(
    lineage: string,
    readonly version: number,
    readonly head: number,
  ) {
    super(
      `Lineage "${lineage}" has no version ${version}; HEAD is ${head}`,
      { lineage, version, head },
      '`errata log` lists the versions there are.',
    );
  }
}

/** A name that is no object name: a mistake of the program, never of its data. */
export class ObjectNameInvalid extends ErrataFailure {
  override readonly name = 'ObjectNameInvalid';
  constructor(objectName: string) {
    super(
      `${JSON.stringify(objectName.slice(0, 200))} is not the name of an object`,
      { objectName: objectName.slice(0, 200) },
      'Names are 1 to 8 segments of [a-z0-9][a-z0-9._-]* joined by "/".',
    );
  }
}

/**
 * A lineage's versions were made for another model than the one at hand. Retried, since the
 * operator can mend it.
 */
export class BaseChanged extends ErrataFailure {
  override readonly name = 'BaseChanged';
  constructor(lineage: string, version: number, differences: string[]) {
    super(
      `Version ${version} of lineage "${lineage}" was made with another model: ${differences.join('; ')}`,
      { lineage, version, differences },
      'Give the model and the hyper-parameters back that the version names, or take a new lineage for the new ones.',
    );
  }
}

/** What was asked of a store, for its failures. */
export interface StoreRequest {
  /** As in ERRATA_VERSIONS. */
  where: string;
  endpoint: string | null;
  operation: string;
  /** The object's name, or the prefix of a listing. */
  name: string;
}

/** The store gives no answer that is of use. It passes: whoever needs the answer tries again. */
export class StoreUnavailable extends ErrataFailure {
  override readonly name = 'StoreUnavailable';
  constructor(
    { where, endpoint, operation, name }: StoreRequest,
    reason: string,
    attempts: number,
  ) {
    super(
      `the version store ${where} gives no answer: ${reason}`,
      { where, endpoint, operation, objectName: name, reason, attempts },
      /CERT|SELF_SIGNED|ALTNAME|UNABLE_TO_/.test(reason)
        ? 'ERRATA_S3_CA names the authority that signed its certificate; ERRATA_S3_ENDPOINT must bear the name that stands in it.'
        : `Check ${endpoint === null ? 'the network' : 'ERRATA_S3_ENDPOINT'}, and whether the server runs; the workers try again by themselves.`,
    );
  }
}

/**
 * The store does not do what it is asked: keys, rights, the bucket's name, the region or the clock.
 * Retried, since the operator can mend it.
 */
export class StoreRefused extends ErrataFailure {
  override readonly name = 'StoreRefused';
  constructor(
    { where, endpoint, operation, name }: StoreRequest,
    code: string,
    status: number | null,
    reason: string,
  ) {
    super(
      `the version store ${where} refuses to ${operation}: ${reason}`,
      { where, endpoint, operation, objectName: name, code, status, reason },
      hintOnRefusal(code, status),
    );
  }
}

function hintOnRefusal(code: string, status: number | null): string {
  if (code === 'NoSuchBucket')
    return 'ERRATA_VERSIONS names a bucket that is not there; Errata makes none.';
  if (
    /InvalidAccessKeyId|SignatureDoesNotMatch|Expired|InvalidToken|Credentials|InvalidClientTokenId|AuthorizationQueryParameters/.test(
      code,
    )
  )
    return "Look at ERRATA_S3_ACCESS_KEY_ID and ERRATA_S3_SECRET_ACCESS_KEY, or at the SDK's own credentials where they are not set.";
  if (/Skewed/.test(code))
    return "This machine's clock and the server's differ by too much: set them.";
  if (
    /Redirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|Region/.test(code) ||
    status === 301
  )
    return "ERRATA_S3_REGION must be the bucket's region.";
  if (status === 403)
    return 'docs/security.md lists the rights that the key needs. Without s3:ListBucket an object that is not there is denied as well.';
  return 'Look at ERRATA_VERSIONS and at the settings that begin with ERRATA_S3_; docs/configuration.md lists them.';
}

/**
 * A server that speaks S3 and lacks what versions need. Writing to it could lose versions, so
 * nothing is written.
 */
export class StoreUnfit extends ErrataFailure {
  override readonly name = 'StoreUnfit';
  constructor(where: string, what: string) {
    super(
      `the version store ${where} is not fit for versions: ${what}`,
      { where, what },
      'Versions need a server that honours "If-None-Match: *" on PutObject, as Amazon S3 does; many others do from some release on. docs/security.md says more.',
    );
  }
}
