/** The audit file, written whole or not at all with its hash beside it, and read line by line. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { AUDIT_LINE_BYTES_MAX } from '../../versions/audit/audit-check.ts';
import { failed, misused } from '../terminal/command-failure.ts';

export interface WrittenAudit {
  lines: number;
  bytes: number;
  sha256: string;
}

/** Writes the lines to a new file; with `force` it may replace an existing one. */
export async function writeAuditFile(
  file: string,
  lines: AsyncIterable<Uint8Array>,
  force: boolean,
): Promise<WrittenAudit> {
  if (!force && existsSync(file))
    throw misused(`${file} exists`, 'Name another file, or replace it with --force.');
  const partial = `${file}.half`;
  const stream = createWriteStream(partial);
  try {
    await once(stream, 'open');
    const written = await writeLines(stream, lines);
    stream.end();
    await once(stream, 'close');
    await rename(partial, file);
    await writeFile(`${file}.sha256`, `${written.sha256}  ${basename(file)}\n`);
    return written;
  } catch (fault) {
    stream.destroy();
    await rm(partial, { force: true });
    throw fault;
  }
}

/** Writes the lines at the stream's pace. */
export async function writeLines(
  stream: NodeJS.WritableStream,
  lines: AsyncIterable<Uint8Array>,
): Promise<WrittenAudit> {
  const hash = createHash('sha256');
  const written = { lines: 0, bytes: 0 };
  for await (const line of lines) {
    hash.update(line);
    written.lines += 1;
    written.bytes += line.byteLength;
    if (!stream.write(line)) await once(stream, 'drain');
  }
  return { ...written, sha256: hash.digest('hex') };
}

/**
 * Reads a file's lines without line feeds; `fileHash` is available once all are read. Throws
 * `CommandFailure` if a line is too long.
 */
export function readAuditFile(
  file: string,
  read: (bytes: number) => void = () => {},
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
        throw failed(
          `a line of ${file} has more than ${AUDIT_LINE_BYTES_MAX} bytes`,
          'It is not an audit file.',
        );
      if (rest.byteLength > 0) parts.push(rest);
    }
    // A complete file ends with a line feed; this one was truncated.
    if (parts.length > 0) yield Buffer.concat(parts);
  }
  return { lines: lines(), fileHash: () => ({ sha256: hash.copy().digest('hex'), bytes }) };
}

const LINE_FEED = 0x0a;
