/**
 * The file of the tokens that `serve` asks for: JSON with what is kept of each
 * (`serving/access/access.ts`), never a token itself. It is written whole and gets its name at
 * once, so that a reader sees the old list or the new one.
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
import { tokensFile, type TokenRecord } from '../../serving/access/access.ts';
import { holdExclusively } from '../setup/exclusive.mjs';

/** The file cannot be trusted or understood. */
export class TokensUnreadable extends Error {
  override readonly name = 'TokensUnreadable';
  readonly hint = 'docs/access.md says how it is written; `errata token` writes it.';
  constructor(
    readonly path: string,
    readonly reason: string,
  ) {
    super(`The tokens in ${path} cannot be read: ${reason}.`);
  }
}

/** Largest file, in bytes: some 1,000 tokens with many patterns. */
const FILE_BYTES_MAX = 4 * 2 ** 20;
const OTHERS_MAY_WRITE = 0o022;
const LOCK_WAIT_MS = 10_000;

/** The tokens of the file; null where there is none. Throws `TokensUnreadable`. */
export function readTokens(path: string): TokenRecord[] | null {
  let text: string;
  try {
    const { mode, size } = statSync(path);
    // Whoever may write to it decides who may do what.
    if ((mode & OTHERS_MAY_WRITE) !== 0)
      throw new TokensUnreadable(
        path,
        `others than its owner may write to it (mode ${(mode & 0o777).toString(8)}; 600 is right)`,
      );
    if (size > FILE_BYTES_MAX)
      throw new TokensUnreadable(
        path,
        `it has ${size} bytes, at most ${FILE_BYTES_MAX} are allowed`,
      );
    text = readFileSync(path, 'utf8');
  } catch (fault) {
    if (fault instanceof TokensUnreadable) throw fault;
    if ((fault as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new TokensUnreadable(path, fault instanceof Error ? fault.message : String(fault));
  }
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    // What the parser says repeats the text.
    throw new TokensUnreadable(path, 'it is no JSON');
  }
  const checked = tokensFile.safeParse(content);
  if (!checked.success)
    throw new TokensUnreadable(
      path,
      checked.error.issues
        .map((issue) =>
          issue.path.length > 0 ? `${issue.path.join('.')}: ${issue.message}` : issue.message,
        )
        .join('; '),
    );
  return checked.data.tokens;
}

/**
 * Changes the file, one change after another whoever makes them; `change` sees the tokens there
 * are. Throws `TokensUnreadable`.
 */
export async function changeTokens(
  path: string,
  change: (tokens: TokenRecord[] | null) => TokenRecord[],
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
  // A narrower umask would have taken the owner's rights away as well.
  chmodSync(half, 0o600);
  renameSync(half, path);
}
