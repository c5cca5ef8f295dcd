/**
 * The audit file on disk: written whole or not at all, with its hash beside it, and read line by
 * line.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { access, rename, rm, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { AUDIT_LINE_BYTES_MAX } from '../../versions/audit/audit-check.ts';
import { CommandFailure } from '../session/command-failure.ts';
import { EXIT } from '../terminal/exit-code.ts';

export interface WrittenAudit {
  lines: number;
  bytes: number;
  sha256: string;
}

/** Writes the lines where nothing is yet, or with `force` in the place of what is there. */
export async function writeAuditFile(
  file: string,
  lines: AsyncIterable<Uint8Array>,
  force: boolean,
  wrote: (lines: number) => void,
): Promise<WrittenAudit> {
  if (!force && (await exists(file)))
    throw new CommandFailure(
      'export the lineage',
      `${file} is there already`,
      'Name another file, or replace it with --force.',
      EXIT.usage,
    );
  const half = `${file}.half`;
  const stream = createWriteStream(half);
  try {
    await once(stream, 'open');
    const written = await writeLines(stream, lines, wrote);
    stream.end();
    await once(stream, 'close');
    await rename(half, file);
    await writeFile(`${file}.sha256`, `${written.sha256}  ${basename(file)}\n`);
    return written;
  } catch (fault) {
    stream.destroy();
    await rm(half, { force: true });
    throw fault;
  }
}

/** Writes the lines as fast as their reader takes them. */
export async function writeLines(
  stream: NodeJS.WritableStream,
  lines: AsyncIterable<Uint8Array>,
  wrote: (lines: number) => void = () => {},
): Promise<WrittenAudit> {
  const hash = createHash('sha256');
  const written = { lines: 0, bytes: 0 };
  for await (const line of lines) {
    hash.update(line);
    written.lines += 1;
    written.bytes += line.byteLength;
    if (!stream.write(line)) await once(stream, 'drain');
    wrote(written.lines);
  }
  return { ...written, sha256: hash.digest('hex') };
}

/**
 * The lines of a file without their line feeds, and what it hashes to once all were read. Throws
 * `CommandFailure`.
 */
export function readAuditFile(
  file: string,
  read: (bytes: number) => void,
): { lines: AsyncIterable<Uint8Array>; fileHash: () => { sha256: string; bytes: number } } {
  const hash = createHash('sha256');
  let bytes = 0;
  async function* lines(): AsyncIterable<Uint8Array> {
    let parts: Buffer[] = [];
    let partBytes = 0;
    for await (const piece of createReadStream(file) as AsyncIterable<Buffer>) {
      hash.update(piece);
      bytes += piece.byteLength;
      read(bytes);
      let from = 0;
      for (let at = piece.indexOf(LINE_FEED); at !== -1; at = piece.indexOf(LINE_FEED, from)) {
        yield Buffer.concat([...parts, piece.subarray(from, at)]);
        parts = [];
        partBytes = 0;
        from = at + 1;
      }
      const rest = piece.subarray(from);
      partBytes += rest.byteLength;
      if (partBytes > AUDIT_LINE_BYTES_MAX)
        throw new CommandFailure(
          'check the audit file',
          `a line of ${file} has more than ${AUDIT_LINE_BYTES_MAX} bytes`,
          'This is no audit file.',
        );
      if (rest.byteLength > 0) parts.push(rest);
    }
    // The last line has its line feed as well, or it was cut off.
    if (parts.length > 0) yield Buffer.concat(parts);
  }
  return { lines: lines(), fileHash: () => ({ sha256: hash.copy().digest('hex'), bytes }) };
}

const LINE_FEED = 0x0a;

async function exists(file: string): Promise<boolean> {
  return await access(file).then(
    () => true,
    () => false,
  );
}
