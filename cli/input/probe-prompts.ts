/**
 * Prompts that a person gives to be asked: as arguments, or in a file, one a line, as text or as
 * JSON.
 */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { boundedJson, UnsoundJson } from '../../schemas/encoding/bounded-json.ts';
import { CommandFailure } from '../session/command-failure.ts';
import { EXIT } from '../terminal/exit-code.ts';

/** A file of prompts: bytes, and prompts that a command asks. */
export const PROBE_LIMITS = {
  fileBytesMax: 16 * 2 ** 20,
  promptsMax: 5_000,
  promptCharactersMax: 8_000,
} as const;

const LINE_LIMITS = { valuesMax: 1_000, depthMax: 8 };

/**
 * The prompts of a file, each once. A line that is a JSON object gives its `prompt`, and
 * `paraphrases` and `neighbourhood` where it has them, as corrections do; a JSON string is itself;
 * every other line is a prompt as it stands. Throws `CommandFailure` that names the lines that are
 * none.
 */
export async function promptsInFile(file: string, workingDirectory: string): Promise<string[]> {
  const operation = 'read the prompts';
  let bytes: Buffer;
  try {
    bytes = await readFile(resolve(workingDirectory, file));
  } catch (error) {
    throw new CommandFailure(
      operation,
      `${file} cannot be read (${error instanceof Error ? error.message : String(error)})`,
      null,
      EXIT.usage,
    );
  }
  if (bytes.byteLength > PROBE_LIMITS.fileBytesMax)
    throw new CommandFailure(
      operation,
      `${file} has ${bytes.byteLength} bytes, at most ${PROBE_LIMITS.fileBytesMax} are read`,
      null,
      EXIT.usage,
    );
  const prompts: string[] = [];
  const faults: string[] = [];
  for (const [i, line] of bytes
    .toString('utf8')
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .entries()) {
    if (line.trim() === '') continue;
    const found = promptsOfLine(line);
    if (found === null) faults.push(`${file}:${i + 1}: it has no prompt`);
    else prompts.push(...found);
  }
  if (faults.length > 0)
    throw new CommandFailure(
      operation,
      faults.slice(0, 8).join('; '),
      'A line is a prompt, a JSON string, or a JSON object with a "prompt".',
      EXIT.usage,
    );
  return checkedPrompts(prompts, file);
}

/**
 * Each prompt once. Throws `CommandFailure` where there are none, too many, or one that is too
 * long.
 */
export function checkedPrompts(prompts: readonly string[], from: string): string[] {
  const once = [...new Set(prompts)];
  const refuse = (why: string) => new CommandFailure('read the prompts', why, null, EXIT.usage);
  if (once.length === 0) throw refuse(`there are no prompts in ${from}`);
  if (once.length > PROBE_LIMITS.promptsMax)
    throw refuse(
      `${from} has ${once.length} prompts, at most ${PROBE_LIMITS.promptsMax} are asked`,
    );
  const long = once.find((prompt) => prompt.length > PROBE_LIMITS.promptCharactersMax);
  if (long !== undefined)
    throw refuse(
      `a prompt of ${from} has ${long.length} characters, at most ${PROBE_LIMITS.promptCharactersMax} are asked`,
    );
  return once;
}

function promptsOfLine(line: string): string[] | null {
  if (!/^\s*["{]/.test(line)) return [line.trim()];
  let value: unknown;
  try {
    value = boundedJson(line, LINE_LIMITS);
  } catch (fault) {
    // A prompt may begin with a quotation mark.
    if (fault instanceof UnsoundJson)
      return line.trimStart().startsWith('"') ? [line.trim()] : null;
    throw fault;
  }
  if (typeof value === 'string') return value.trim() === '' ? null : [value];
  const {
    prompt,
    paraphrases = [],
    neighbourhood = [],
  } = value as { prompt?: unknown; paraphrases?: unknown; neighbourhood?: unknown };
  const all = [prompt, ...listOf(paraphrases), ...listOf(neighbourhood)];
  return all.every((one): one is string => typeof one === 'string' && one.trim() !== '')
    ? all
    : null;
}

/** What is no list makes the line none that has prompts. */
function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [null];
}

/** Parts of at most so many, in order. */
export function partsOf<Item>(items: readonly Item[], size: number): Item[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) =>
    items.slice(i * size, (i + 1) * size),
  );
}
