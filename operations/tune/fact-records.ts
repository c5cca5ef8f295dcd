/** Reads records in CounterFact's form (arXiv 2202.05262) as corrections. */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { messageOf } from '../../schemas/failures.ts';
import { factKeyOf, type CorrectionRevision } from '../../schemas/correction.ts';

const recordSchema = z.object({
  case_id: z.union([z.number(), z.string()]),
  prompt: z.string(),
  subject: z.string(),
  target_new: z.string(),
  ground_truth: z.string(),
  rephrase_prompt: z.string().optional(),
  paraphrases: z.array(z.string()).optional(),
  locality_prompt: z.string().optional(),
  neighbours: z.array(z.string()).optional(),
});

export interface FactRecord {
  prompt: string;
  target: string;
  /** The answer before the edit. */
  old: string;
  paraphrases: string[];
  neighbours: string[];
  revision: CorrectionRevision;
}

export class BadRecords extends Error {
  override readonly name = 'BadRecords';
}

const FAULTS_NAMED_MAX = 5;

/** Reads records [from, to) of a JSON file. Throws `BadRecords`, naming the first faults. */
export async function readRecords(file: string, from: number, to: number): Promise<FactRecord[]> {
  let content: unknown;
  try {
    content = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    throw new BadRecords(`${file} cannot be read as JSON: ${messageOf(error)}`);
  }
  if (!Array.isArray(content))
    throw new BadRecords(`${file} is not in CounterFact's form: it is not an array of records`);
  const parsed = z.array(recordSchema).safeParse(content.slice(from, to));
  if (!parsed.success) {
    const faults = parsed.error.issues
      .slice(0, FAULTS_NAMED_MAX)
      .map(({ path: [index, ...field], message }) => {
        const place = [`record ${from + Number(index)}`, field.join('.')].filter((one) => one);
        return `${place.join(', ')}: ${message}`;
      });
    throw new BadRecords(`${file} is not in CounterFact's form: ${faults.join('; ')}`);
  }
  if (parsed.data.length === 0)
    throw new BadRecords(`${file} has no records from ${from} to ${to}`);
  return parsed.data.map((record, i) => {
    const paraphrases = listOf(record.rephrase_prompt, record.paraphrases);
    const neighbours = [...new Set(listOf(record.locality_prompt, record.neighbours))];
    const correction = {
      id: `record-${from + i}-case-${record.case_id}`,
      lineage: 'bench',
      subject: record.subject,
      relation: null,
      prompt: record.prompt,
      target: record.target_new,
      previousAnswer: record.ground_truth,
      paraphrases,
      neighbourhood: neighbours,
      source: 'benchmark',
      issuedAt: from + i,
    };
    const position = { topic: 'bench', partition: 0, offset: String(from + i) };
    return {
      prompt: record.prompt,
      target: record.target_new,
      old: record.ground_truth,
      paraphrases,
      neighbours,
      revision: { kind: 'correction', factKey: factKeyOf(correction), position, correction },
    };
  });
}

function listOf(one: string | undefined, more: readonly string[] = []): string[] {
  return one === undefined ? [...more] : [one, ...more];
}
