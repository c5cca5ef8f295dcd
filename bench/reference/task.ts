/** The input of the reference program: parameters, and records as the token ids that ours reads. */
import type { Tokenizer } from '../../model/tokenizer/tokenizer.ts';
import {
  answerTokens,
  isRefusal,
  locate,
  readEdit,
  type LocatedPrompt,
} from '../../model/network/sequences.ts';
import type { HyperParameters } from '../../schemas/editing.ts';
import type { FactRecord } from '../../operations/tune/fact-records.ts';
import type { KeptStatistics } from './kept-statistics.ts';

export interface ReferenceTask {
  modelFolder: string;
  statistics: KeptStatistics;
  device: 'cpu' | 'cuda';
  threads: number;
  batchSize: number;
  parameters: ReferenceParameters;
  records: ReferenceRecord[];
}

export interface ReferenceParameters {
  layers: number[];
  lambda: number;
  alpha: number;
  steps: number;
  learningRate: number;
  klFactor: number;
  weightDecay: number;
  clamp: number;
  lossTarget: number;
}

export interface ReferenceRecord {
  bare: LocatedPrompt;
  /** The prompt after a context. */
  behind: LocatedPrompt;
  /** "<subject> is a". */
  essence: LocatedPrompt;
  target: number[];
  own: Question;
  paraphrases: Question[];
  neighbours: { prompt: number[] }[];
  /** False if a later record of the same fact replaces it: it is edited, but not measured. */
  measured: boolean;
}

export interface Question {
  prompt: number[];
  target: number[];
  old: number[];
}

/**
 * The published hyper-parameters, with lambda = F, which did best on a small model, and the blocks
 * that ours edits.
 */
export function referenceParameters({
  parameters: { layers },
  model: { mlpWidth },
}: {
  parameters: Pick<HyperParameters, 'layers'>;
  model: { mlpWidth: number };
}): ReferenceParameters {
  return {
    layers,
    lambda: mlpWidth,
    alpha: 2.2,
    steps: 25,
    learningRate: 0.5,
    klFactor: 0.0625,
    weightDecay: 1e-3,
    clamp: 4,
    lossTarget: 0.05,
  };
}

/**
 * Encodes records, as published without a front token. Throws RangeError on a record whose subject
 * is not in its prompt or whose target is empty.
 */
export function referenceRecords(
  tokenizer: Tokenizer,
  records: readonly FactRecord[],
): ReferenceRecord[] {
  const last = new Map(records.map((record, i) => [record.revision.factKey, i]));
  return records.map((record, i) => {
    const { revision } = record;
    if (revision.kind !== 'correction') throw new RangeError(`record ${i} is not a correction`);
    const edit = readEdit(tokenizer, revision.correction, UNLIMITED);
    if (isRefusal(edit)) throw new RangeError(`${revision.correction.id}: ${edit.reason}`);
    const question = (prompt: string): Question => ({
      prompt: tokenizer.encode(prompt),
      target: answerTokens(tokenizer, prompt, record.target),
      old: answerTokens(tokenizer, prompt, record.old),
    });
    return {
      bare: edit.bare,
      behind: edit.behind,
      essence: locate(tokenizer, `${edit.subject} is a`, 0, edit.subject.length),
      target: edit.target,
      own: question(record.prompt),
      paraphrases: record.paraphrases.map(question),
      neighbours: record.neighbours.map((prompt) => ({ prompt: tokenizer.encode(prompt) })),
      measured: last.get(revision.factKey) === i,
    };
  });
}

const UNLIMITED = {
  targetTokensMax: Infinity,
  promptTokensMax: Infinity,
  togetherTokensMax: Infinity,
};
