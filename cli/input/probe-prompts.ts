/** Reads prompts for the model from arguments, or from a file of text or JSON lines. */
import { boundedJson, UnsoundJson } from '../../schemas/encoding/bounded-json.ts';
import { misused } from '../terminal/command-failure.ts';
import type { Surroundings } from '../terminal/output.ts';
import { LINE_LIMITS, readText } from './read-input.ts';

/** Bounds of a prompt file, and of the prompts of one command. */
export const PROBE_LIMITS = {
  fileBytesMax: 16 * 2 ** 20,
  promptsMax: 5_000,
  promptCharactersMax: 8_000,
} as const;

const FAULTS_SHOWN_MAX = 8;

/**
 * Reads the distinct prompts of a file. A JSON object contributes its `prompt`, `paraphrases` and
 * `neighbourhood`; a JSON string is a prompt; so is any other line. Throws `CommandFailure` listing
 * the lines without a prompt.
 */
export async function promptsInFile(surroundings: Surroundings, file: string): Promise<string[]> {
  const text = await readText(surroundings, file, PROBE_LIMITS.fileBytesMax);
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/);
  const prompts: string[] = [];
  const faults: string[] = [];
  for (const [i, line] of lines.entries()) {
    if (line.trim() === '') continue;
    const found = promptsOfLine(line);
    if (found === null) faults.push(`${file}:${i + 1}: it has no prompt`);
    else prompts.push(...found);
  }
  if (faults.length > 0)
    throw misused(
      faults.slice(0, FAULTS_SHOWN_MAX).join('; '),
      'A line is a prompt, a JSON string, or a JSON object with a "prompt".',
    );
  return checkedPrompts(prompts, file);
}

/**
 * Returns the distinct prompts. Throws `CommandFailure` if there are none or a bound is exceeded.
 */
export function checkedPrompts(prompts: readonly string[], from: string): string[] {
  const { promptsMax, promptCharactersMax } = PROBE_LIMITS;
  const unique = [...new Set(prompts)];
  if (unique.length === 0) throw misused(`there are no prompts in ${from}`);
  if (unique.length > promptsMax)
    throw misused(`${from} has ${unique.length} prompts, at most ${promptsMax} are allowed`);
  const long = unique.find((prompt) => prompt.length > promptCharactersMax);
  if (long === undefined) return unique;
  throw misused(
    `a prompt of ${from} has ${long.length} characters, at most ${promptCharactersMax} are allowed`,
  );
}

function promptsOfLine(line: string): string[] | null {
  if (!/^\s*["{]/.test(line)) return [line.trim()];
  let value: unknown;
  try {
    value = boundedJson(line, LINE_LIMITS);
  } catch (fault) {
    if (!(fault instanceof UnsoundJson)) throw fault;
    // A prompt may begin with a quotation mark.
    return line.trimStart().startsWith('"') ? [line.trim()] : null;
  }
  const {
    prompt,
    paraphrases = [],
    neighbourhood = [],
  } = typeof value === 'string' ? { prompt: value } : (value as Record<string, unknown>);
  const lists = [paraphrases, neighbourhood].flatMap((list): unknown[] =>
    Array.isArray(list) ? list : [null],
  );
  const sound = (one: unknown): one is string => typeof one === 'string' && one.trim() !== '';
  const all = [prompt, ...lists];
  return all.every(sound) ? all : null;
}
