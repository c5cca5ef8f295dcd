/**
 * Measured points, kept in a folder so that an interrupted study resumes. A point's name is the
 * hash of its question (study, data, model, parameters, mark), so another question never finds its
 * answer.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { canonicalJson } from '../../versions/log/canonical-json.ts';
import { sha256 } from '../../versions/log/object-names.ts';

export class KeptPoints {
  constructor(private readonly folder: string) {}

  /**
   * Returns the kept answer, or the result of `work`, which is kept first. Question and answer are
   * plain data; throws TypeError if JSON cannot write them (a number that is not finite).
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

  /** Returns null if the question has no answer yet. */
  async find<Answer>(question: Record<string, unknown>): Promise<Answer | null> {
    try {
      const point = JSON.parse(await readFile(this.#file(question), 'utf8')) as { answer: Answer };
      return point.answer;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
  }

  #file(question: Record<string, unknown>): string {
    return path.join(this.folder, 'points', `${nameOf(question)}.json`);
  }
}

/** A hexadecimal hash, equal for equal plain data. */
export function nameOf(question: Record<string, unknown>): string {
  return sha256(canonicalJson(question));
}

/** The folder of the stream that answers this question. */
export function streamFolder(folder: string, question: Record<string, unknown>): string {
  return path.join(folder, 'streams', nameOf(question).slice(0, 16));
}
