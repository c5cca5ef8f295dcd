/** Sends requests to one place in S3: the client, the limits, and the rules for retries. */
import { setTimeout as delay } from 'node:timers/promises';
import type * as S3Library from '@aws-sdk/client-s3';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import { StoreRefused, StoreUnavailable } from './failures.ts';

export interface S3Place {
  bucket: string;
  /** Precedes all object names, without a "/" at either end; may be empty. */
  prefix: string;
  /** Null: Amazon's own endpoint of the region. */
  endpoint: string | null;
  /** Null: the SDK's own (AWS_REGION, a profile). */
  region: string | null;
  /** Whether the bucket is named in the path instead of the host name. */
  pathStyle: boolean;
  /** Null: the SDK's own (environment, profile, role of the machine). */
  credentials: { accessKeyId: string; secretAccessKey: string } | null;
  /** PEM; undefined: Node's own list. */
  ca?: string;
}

/**
 * Waits in milliseconds, and numbers of tries. A conditional put that meets others may get
 * "conflict" until they are done, so it has more tries.
 */
export const S3_LIMITS = {
  connectMs: 5_000,
  idleMs: 20_000,
  attemptMs: 900_000,
  attemptsMax: 3,
  conflictsMax: 12,
  waitMs: 100,
  waitMaxMs: 2_000,
  socketsMax: 64,
  namesMax: 20_000_000,
} as const;

export interface S3Attempt {
  client: S3Client;
  sdk: typeof S3Library;
  /** Options for every command, which bound it in time. */
  options: { abortSignal: AbortSignal };
}

/** Thrown by an attempt whose repetition may succeed. */
export class PassingFault extends Error {}

export class S3Connection {
  #connected: ReturnType<typeof connect> | null = null;

  constructor(private readonly place: S3Place) {}

  /** The place, in the form of ERRATA_VERSIONS. */
  get where(): string {
    const { bucket, prefix } = this.place;
    return `s3://${bucket}${prefix === '' ? '' : `/${prefix}`}`;
  }

  /**
   * Repeats the work where a retry may help, after waits that double. Throws `StoreUnavailable`,
   * `StoreRefused` and the work's RangeErrors.
   */
  async attempt<Result>(
    operation: 'get' | 'list' | 'put' | 'delete',
    name: string,
    work: (attempt: S3Attempt) => Promise<Result>,
  ): Promise<Result> {
    let conflicts = 0;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const abortSignal = AbortSignal.timeout(S3_LIMITS.attemptMs);
        return await work({ ...(await this.#connect()), options: { abortSignal } });
      } catch (fault) {
        if (fault instanceof RangeError) throw fault;
        // The SDK's error must not leave this file: it holds the whole exchange, signature
        // included.
        const kind = kindOf(fault);
        if (kind === 'conflict') conflicts += 1;
        const request = { where: this.where, endpoint: this.place.endpoint, operation, name };
        const [code, status, reason] = [codeOf(fault), statusOf(fault), reasonOf(fault)];
        const isLast =
          attempt - conflicts >= S3_LIMITS.attemptsMax || conflicts >= S3_LIMITS.conflictsMax;
        // The SDK corrects for the clock after the first try; a skew that persists is a refusal.
        if (kind === 'refused' || (isLast && code === SKEWED))
          throw new StoreRefused(request, { code, status, reason });
        if (isLast) throw new StoreUnavailable(request, reason, attempt);
        // After fixed waits, all callers that collided would collide again.
        await delay(Math.random() * Math.min(S3_LIMITS.waitMaxMs, S3_LIMITS.waitMs * 2 ** attempt));
      }
    }
  }

  #connect(): ReturnType<typeof connect> {
    this.#connected ??= connect(this.place).catch((fault: unknown) => {
      this.#connected = null;
      throw fault;
    });
    return this.#connected;
  }
}

const SKEWED = 'RequestTimeTooSkewed';

/** For servers without regions. */
const ANY_REGION = 'us-east-1';

/** Loads the SDK, which only processes with versions in a bucket need. */
async function connect(place: S3Place): Promise<Pick<S3Attempt, 'client' | 'sdk'>> {
  const { endpoint, credentials, ca } = place;
  // The SDK is pinned, so the needs of later releases do not concern the user.
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
  const sdk = await import('@aws-sdk/client-s3');
  const region = place.region ?? (endpoint === null ? null : ANY_REGION);
  const agent = { keepAlive: true, maxSockets: S3_LIMITS.socketsMax };
  const options: S3ClientConfig = {
    ...(endpoint === null ? {} : { endpoint }),
    ...(region === null ? {} : { region }),
    ...(credentials === null ? {} : { credentials }),
    forcePathStyle: place.pathStyle,
    // Only our own loop can recognise the second try of a put.
    maxAttempts: 1,
    // Requests with this header would bypass the agents below.
    expectContinueHeader: false,
    // The signature covers the content, and readers check its hash. Not every server supports
    // further checksums.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: S3_LIMITS.connectMs,
      socketTimeout: S3_LIMITS.idleMs,
      httpAgent: agent,
      httpsAgent: { ...agent, ...(ca === undefined ? {} : { ca }) },
    },
  };
  return { client: new sdk.S3Client(options), sdk };
}

function kindOf(fault: unknown): 'passing' | 'conflict' | 'refused' {
  const status = statusOf(fault);
  const code = codeOf(fault);
  if (status === null) return NOT_SENT.test(`${code} ${reasonOf(fault)}`) ? 'refused' : 'passing';
  if (status === 409) return 'conflict';
  if (code === SKEWED || status === 408 || status === 429 || (status >= 500 && status !== 501))
    return 'passing';
  return status < 300 ? 'passing' : 'refused';
}

/** Faults of the SDK before it sent a request. */
const NOT_SENT = /CredentialsProviderError|Region is missing|Could not load credentials/;

/** Returns the HTTP status of the answer; null without an answer. */
export function statusOf(fault: unknown): number | null {
  const { $metadata, $response } = fault as {
    $metadata?: { httpStatusCode?: number };
    $response?: { statusCode?: number };
  };
  return $metadata?.httpStatusCode ?? $response?.statusCode ?? null;
}

export function codeOf(fault: unknown): string {
  return fault instanceof Error ? fault.name : '';
}

function reasonOf(fault: unknown): string {
  if (!(fault instanceof Error)) return String(fault);
  // An answer without a body has no message; addresses that all refuse have only a code.
  const { code } = fault as { code?: unknown };
  const parts = [
    fault.name === 'Error' ? '' : fault.name,
    fault.message,
    typeof code === 'string' && !fault.message.includes(code) ? code : '',
  ];
  return [...new Set(parts)].filter((part) => part !== '').join(': ');
}
