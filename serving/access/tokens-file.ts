/**
 * The file of tokens that `serve` accepts: JSON with one record per token (`access.ts`), never the
 * tokens themselves. A change writes a new file and renames it over the old one, so that a reader
 * sees either the old list or the new one.
 */
import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { faultsFound } from '../../schemas/encoding/excerpt.ts';
import { messageOf } from '../../schemas/failures.ts';
import { tokensFile, type TokenRecord } from './access.ts';

/** The file cannot be trusted or parsed. */
export class TokensUnreadable extends Error {
  override readonly name = 'TokensUnreadable';
  readonly hint = 'docs/access.md describes the format; `errata token` writes it.';
  constructor(
    readonly path: string,
    readonly reason: string,
  ) {
    super(`The tokens in ${path} cannot be read: ${reason}.`);
  }
}

/** A lock between the processes of this machine, by purpose. */
type HoldExclusively = (purpose: string, waitMs: number) => Promise<{ release(): Promise<void> }>;

/** Maximum file size, in bytes: about 1,000 tokens with many patterns. */
const FILE_BYTES_MAX = 4 * 2 ** 20;
const OTHERS_MAY_WRITE = 0o022;
const LOCK_WAIT_MS = 10_000;

/** Reads the tokens; null if there is no file. Throws `TokensUnreadable`. */
export function readTokens(path: string): TokenRecord[] | null {
  const text = readTrusted(path);
  if (text === null) return null;
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    // The parser's message would repeat the text.
    throw new TokensUnreadable(path, 'it is not JSON');
  }
  const checked = tokensFile.safeParse(content);
  if (checked.success) return checked.data.tokens;
  throw new TokensUnreadable(path, faultsFound(checked.error).join('; '));
}

/** Anyone who can write the file decides who may do what, so it must be the owner's alone. */
function readTrusted(path: string): string | null {
  try {
    const { mode, size } = statSync(path);
    if ((mode & OTHERS_MAY_WRITE) !== 0) {
      const found = (mode & 0o777).toString(8);
      throw new TokensUnreadable(
        path,
        `users other than its owner may write to it (its mode is ${found}, it should be 600)`,
      );
    }
    if (size > FILE_BYTES_MAX)
      throw new TokensUnreadable(path, `it has ${size} bytes; the limit is ${FILE_BYTES_MAX}`);
    return readFileSync(path, 'utf8');
  } catch (fault) {
    if (fault instanceof TokensUnreadable) throw fault;
    if ((fault as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new TokensUnreadable(path, messageOf(fault));
  }
}

/**
 * Replaces the tokens with the result of `change`, under a lock that serialises concurrent changes.
 * Throws `TokensUnreadable`.
 */
export async function changeTokens(
  path: string,
  change: (tokens: TokenRecord[] | null) => TokenRecord[],
  holdExclusively: HoldExclusively,
): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  const turn = await holdExclusively(`tokens in ${path}`, LOCK_WAIT_MS);
  try {
    write(path, change(readTokens(path)));
  } finally {
    await turn.release();
  }
}

function write(path: string, tokens: TokenRecord[]): void {
  const half = `${path}.half`;
  rmSync(half, { force: true });
  const file = openSync(half, 'wx', 0o600);
  try {
    writeSync(file, `${JSON.stringify({ tokens }, null, 2)}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  // A narrow umask could have removed the owner's rights as well.
  chmodSync(half, 0o600);
  renameSync(half, path);
}
