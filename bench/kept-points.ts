/**
 * Measured points, kept in a folder so that an interrupted study resumes. A point's name is the
 * hash of its question (study, data, model, parameters, mark), so another question never finds its
 * answer.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { canonicalJson } from '../versions/log/canonical-json.ts';
import { sha256 } from '../versions/log/object-names.ts';

type Question = Record<string, unknown>;

export class KeptPoints {
  constructor(private readonly folder: string) {}

  /**
   * Returns the kept answer, or the result of `work`, which is kept first. Question and answer are
   * plain data; throws TypeError if JSON cannot write them (a number that is not finite).
   */
  async once<Answer>(question: Question, work: () => Promise<Answer>): Promise<Answer> {
    const file = path.join(this.folder, 'points', `${nameOf(question)}.json`);
    try {
      return (JSON.parse(await readFile(file, 'utf8')) as { answer: Answer }).answer;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    const answer = await work();
    await mkdir(path.dirname(file), { recursive: true });
    // A process that dies while it writes leaves no half point behind.
    const unfinished = `${file}.${process.pid}`;
    await writeFile(unfinished, canonicalJson({ question, answer }));
    await rename(unfinished, file);
    return answer;
  }

  /** The folder of the stream that answers this question. */
  streamFolder(question: Question): string {
    return path.join(this.folder, 'streams', nameOf(question).slice(0, 16));
  }
}

/** A hexadecimal hash, equal for equal plain data. */
export function nameOf(question: Question): string {
  return sha256(canonicalJson(question));
}
