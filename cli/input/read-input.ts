import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import { boundedJson, UnsoundJson } from '../../schemas/encoding/bounded-json.ts';
import { messageOf, misused } from '../terminal/command-failure.ts';
import type { Surroundings } from '../terminal/output.ts';
import { counted } from '../terminal/text.ts';

/** Reads a file, or standard input for `-`. Throws `CommandFailure` if it is too long. */
export async function readText(
  { in: input, workingDirectory }: Surroundings,
  file: string,
  bytesMax: number,
): Promise<string> {
  const stream = file === '-' ? input : createReadStream(resolve(workingDirectory, file));
  const parts: Buffer[] = [];
  let bytes = 0;
  // Read in chunks, since it may be an endless pipe or device.
  const pieces = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  for (;;) {
    const piece = await pieces.next().catch((error: unknown) => {
      throw misused(`${file} cannot be read (${messageOf(error)})`);
    });
    if (piece.done === true) break;
    parts.push(Buffer.from(piece.value));
    bytes += piece.value.length;
    if (bytes > bytesMax) throw misused(`${file} has more than ${bytesMax} bytes`);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts));
  } catch {
    throw misused(`${file} is not UTF-8`);
  }
}

/** A non-blank line of input. */
export type JsonLine = { line: number } & ({ value: unknown } | { fault: string });

/** Maximum number and nesting depth of values in one JSON line. */
export const LINE_LIMITS = { valuesMax: 1_000, depthMax: 8 };

/** Parses NDJSON line by line; blank lines are skipped. */
export function* jsonLines(text: string, lineCharactersMax: number): Generator<JsonLine> {
  for (let line = 1, from = 0; from < text.length; line++) {
    const newLine = text.indexOf('\n', from);
    const end = newLine === -1 ? text.length : newLine;
    if (end - from > lineCharactersMax)
      yield {
        line,
        fault: `it has ${end - from} characters, at most ${lineCharactersMax} are allowed`,
      };
    else if (text.slice(from, end).trim() !== '') yield { line, ...read(text.slice(from, end)) };
    from = end + 1;
  }
}

function read(content: string): { value: unknown } | { fault: string } {
  try {
    return { value: boundedJson(content, LINE_LIMITS) };
  } catch (error) {
    if (error instanceof UnsoundJson) return { fault: error.reason };
    throw error;
  }
}

const FAULTS_SHOWN_MAX = 20;

export function faultsText(
  file: string,
  faults: readonly { line: number; reason: string }[],
): string {
  const place = file === '-' ? 'line ' : `${file}:`;
  const shown = faults
    .slice(0, FAULTS_SHOWN_MAX)
    .map(({ line, reason }) => `\n  ${place}${line}: ${reason}`);
  const more = faults.length - shown.length;
  const source = file === '-' ? 'the input' : file;
  return [
    `nothing was sent, since ${source} has ${counted(faults.length, 'fault')}:`,
    ...shown,
    more > 0 ? `\n  and ${more} more` : '',
  ].join('');
}
