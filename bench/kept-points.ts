/**
 * Measured points stored in a folder, so that an interrupted study resumes. A point's file name is
 * the hash of its question (study, data, model, parameters, mark), so a point is reused only for
 * exactly the same question.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { canonicalJson } from '../versions/log/canonical-json.ts';
import { sha256 } from '../versions/log/object-names.ts';

type Question = Record<string, unknown>;

export class KeptPoints {
  constructor(private readonly folder: string) {}

  /**
   * Returns the stored answer, or runs `work` and stores its result. Question and answer are plain
   * data. Throws TypeError if JSON cannot represent them (a non-finite number).
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
    // Writing to a temporary file first keeps a dying process from leaving half a point.
    const unfinished = `${file}.${process.pid}`;
    await writeFile(unfinished, canonicalJson({ question, answer }));
    await rename(unfinished, file);
    return answer;
  }

  /** Returns the folder of the stream that answers this question. */
  streamFolder(question: Question): string {
    return path.join(this.folder, 'streams', nameOf(question).slice(0, 16));
  }
}

/** Returns a hexadecimal hash that is equal for equal plain data. */
export function nameOf(question: Question): string {
  return sha256(canonicalJson(question));
}
