/** Failures of the object stores. schemas/failures.ts lists those worth a retry. */
import { ErrataFailure } from '../../schemas/failures.ts';

/** A programming error: the text cannot name an object. */
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

interface StoreRequest {
  /** The place, in the form of ERRATA_VERSIONS. */
  where: string;
  endpoint: string | null;
  operation: string;
  /** The object's name, or the prefix of a listing. */
  name: string;
}

/** The store does not answer for now; the caller tries again. */
export class StoreUnavailable extends ErrataFailure {
  override readonly name = 'StoreUnavailable';
  constructor(
    { where, endpoint, operation, name }: StoreRequest,
    reason: string,
    attempts: number,
  ) {
    super(
      `the version store ${where} does not answer: ${reason}`,
      { where, endpoint, operation, objectName: name, reason, attempts },
      /CERT|SELF_SIGNED|ALTNAME|UNABLE_TO_/.test(reason)
        ? 'ERRATA_S3_CA must name the authority that signed its certificate, and the host of ' +
            'ERRATA_S3_ENDPOINT must be in that certificate.'
        : `Check ${endpoint === null ? 'the network' : 'ERRATA_S3_ENDPOINT'} and that the ` +
            'server runs; the workers keep trying.',
    );
  }
}

/**
 * The store refuses the request because of keys, rights, the bucket's name, the region or the
 * clock. Retried, since an operator can fix it.
 */
export class StoreRefused extends ErrataFailure {
  override readonly name = 'StoreRefused';
  constructor(
    { where, endpoint, operation, name }: StoreRequest,
    { code, status, reason }: { code: string; status: number | null; reason: string },
  ) {
    super(
      `the version store ${where} refuses to ${operation}: ${reason}`,
      { where, endpoint, operation, objectName: name, code, status, reason },
      REFUSAL_HINTS.find(
        (one) => one.sign?.test(code) === true || (status !== null && one.status === status),
      )?.hint ??
        'Check ERRATA_VERSIONS and the settings that begin with ERRATA_S3_; ' +
          'docs/configuration.md lists them.',
    );
  }
}

/** The first matching rule applies. */
const REFUSAL_HINTS: readonly { sign?: RegExp; status?: number; hint: string }[] = [
  {
    sign: /^NoSuchBucket$/,
    hint: 'ERRATA_VERSIONS names a bucket that does not exist; Errata creates none.',
  },
  {
    sign: new RegExp(
      'InvalidAccessKeyId|SignatureDoesNotMatch|Expired|InvalidToken|Credentials|' +
        'InvalidClientTokenId|AuthorizationQueryParameters',
    ),
    hint:
      'Check ERRATA_S3_ACCESS_KEY_ID and ERRATA_S3_SECRET_ACCESS_KEY, ' +
      "or the SDK's own credentials where they are not set.",
  },
  {
    sign: /Skewed/,
    hint: "This machine's clock and the server's differ by too much: set them.",
  },
  {
    sign: /Redirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|Region/,
    status: 301,
    hint: "ERRATA_S3_REGION must be the bucket's region.",
  },
  {
    status: 403,
    hint:
      'docs/security.md lists the rights that the key needs. ' +
      'Without s3:ListBucket a missing object is denied as well.',
  },
];

/** The S3 server lacks put-if-absent. Nothing is written, since versions could be lost. */
export class StoreUnfit extends ErrataFailure {
  override readonly name = 'StoreUnfit';
  constructor(where: string, what: string) {
    super(
      `the version store ${where} is not fit for versions: ${what}`,
      { where, what },
      'Versions need a server that honours "If-None-Match: *" on PutObject. Amazon S3 does, and ' +
        'recent releases of many others. See docs/security.md.',
    );
  }
}
