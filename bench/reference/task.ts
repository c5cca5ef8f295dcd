/**
 * The input of the reference program: parameters, and records as the token ids that Errata reads.
 */
import type { Tokenizer } from '../../model/tokenizer/tokenizer.ts';
import { answerTokens, isRefusal, locate, readEdit } from '../../model/network/sequences.ts';
import type { HyperParameters } from '../../schemas/hyper-parameters.ts';
import type { FactRecord } from '../../operations/tune/fact-records.ts';
import type { KeptStatistics } from './kept-statistics.ts';

export interface ReferenceTask {
  modelFolder: string;
  statistics: KeptStatistics;
  device: 'cpu' | 'cuda';
  threads: number;
  batchSize: number;
  parameters: ReturnType<typeof referenceParameters>;
  records: ReturnType<typeof referenceRecords>;
}

/**
 * Returns the published hyper-parameters with lambda = F, which worked best on a small model, and
 * the blocks that Errata edits.
 */
export function referenceParameters({
  parameters: { layers },
  model: { mlpWidth },
}: {
  parameters: Pick<HyperParameters, 'layers'>;
  model: { mlpWidth: number };
}) {
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
 * Encodes records as published, without a front token. Throws RangeError if a record's subject is
 * not in its prompt or its target is empty.
 */
export function referenceRecords(tokenizer: Tokenizer, records: readonly FactRecord[]) {
  const last = new Map(records.map((record, i) => [record.revision.factKey, i]));
  return records.map((record, i) => {
    const { correction, factKey } = record.revision;
    const edit = readEdit(tokenizer, correction, UNLIMITED);
    if (isRefusal(edit)) throw new RangeError(`${correction.id}: ${edit.reason}`);
    const question = (prompt: string) => ({
      prompt: tokenizer.encode(prompt),
      target: answerTokens(tokenizer, prompt, record.target),
      old: answerTokens(tokenizer, prompt, record.old),
    });
    return {
      bare: edit.bare,
      /** The prompt following a context. */
      behind: edit.behind,
      essence: locate(tokenizer, `${edit.subject} is a`, 0, edit.subject.length),
      target: edit.target,
      own: question(record.prompt),
      paraphrases: record.paraphrases.map(question),
      neighbours: record.neighbours.map((prompt) => ({ prompt: tokenizer.encode(prompt) })),
      /** False if a later record of the same fact replaces it: it is edited but not measured. */
      measured: last.get(factKey) === i,
    };
  });
}

const UNLIMITED = {
  targetTokensMax: Infinity,
  promptTokensMax: Infinity,
  togetherTokensMax: Infinity,
};
