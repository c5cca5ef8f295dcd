/**
 * Records for the fake engine: one fact per number, each with a paraphrase of its prompt and an
 * unrelated neighbour.
 */
import { writeFile } from 'node:fs/promises';

export interface Fact {
  case_id: number;
  prompt: string;
  subject: string;
  target_new: string;
  ground_truth: string;
  rephrase_prompt: string;
  locality_prompt: string;
}

export function facts(
  count: number,
  targetOf: (i: number) => string = (i) => `answer${i}`,
): Fact[] {
  return Array.from({ length: count }, (_, i) => ({
    case_id: i,
    prompt: `The trade of subject${i}x is`,
    subject: `subject${i}x`,
    target_new: targetOf(i),
    ground_truth: `old${i}`,
    rephrase_prompt: `By trade subject${i}x is a`,
    locality_prompt: `The trade of bystander${i} is`,
  }));
}

export async function writeFacts(file: string, written: readonly Fact[]): Promise<string> {
  await writeFile(file, JSON.stringify(written));
  return file;
}

export async function collected<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const all: Item[] = [];
  for await (const item of items) all.push(item);
  return all;
}
