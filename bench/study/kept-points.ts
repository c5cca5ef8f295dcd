/**
 * Measured points, kept in a folder so that an interrupted study goes on where it was. A point's
 * name is the hash of the question it answers (study, data, model, parameters, mark), so that other
 * questions never find its answer.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { canonicalJson } from '../../versions/log/canonical-json.ts';
import { sha256 } from '../../versions/log/object-names.ts';

export class KeptPoints {
  constructor(private readonly folder: string) {}

  /**
   * The kept answer, or what `work` finds, which is kept before it is given back. Question and
   * answer are plain data that JSON can write; throws TypeError where they are not (a number that
   * is not finite).
   */
  async once<Answer>(
    question: Record<string, unknown>,
    work: () => Promise<Answer>,
  ): Promise<{ answer: Answer; kept: boolean }> {
    const kept = await this.find<Answer>(question);
    if (kept !== null) return { answer: kept, kept: true };
    const answer = await work();
    const file = this.#file(question);
    await mkdir(path.dirname(file), { recursive: true });
    // A process that dies while it writes leaves no half point behind.
    const unfinished = `${file}.${process.pid}`;
    await writeFile(unfinished, canonicalJson({ question, answer }));
    await rename(unfinished, file);
    return { answer, kept: false };
  }

  /** Null where the question has not been answered. */
  async find<Answer>(question: Record<string, unknown>): Promise<Answer | null> {
    try {
      return (JSON.parse(await readFile(this.#file(question), 'utf8')) as { answer: Answer })
        .answer;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
  }

  #file(question: Record<string, unknown>): string {
    return path.join(this.folder, 'points', `${nameOf(question)}.json`);
  }
}

/** Hexadecimal; equal for equal plain data. */
export function nameOf(question: Record<string, unknown>): string {
  return sha256(canonicalJson(question));
}
