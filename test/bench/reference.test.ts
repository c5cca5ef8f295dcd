/** The comparison with the reference without PyTorch: its input and the use of its output. */
import { createHash } from 'node:crypto';
import { copyFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import type { BenchResult } from '../../bench/edit-stream.ts';
import { readRecords } from '../../operations/tune/fact-records.ts';
import { exportModel, NotExportable } from '../../bench/reference/export-model.ts';
import { keptStatistics } from '../../bench/reference/kept-statistics.ts';
import { pythonWithTorch } from '../../bench/reference/python.ts';
import {
  referenceResultSchema,
  type ReferenceResult,
} from '../../bench/reference/reference-result.ts';
import { sideBySide, speedupOf } from '../../bench/reference/side-by-side.ts';
import { referenceParameters, referenceRecords } from '../../bench/reference/task.ts';
import { PROJECT_ROOT } from '../../infra/config/home.ts';
import { silentProgress } from '../../infra/setup/progress.ts';
import { openCheckpoint } from '../../model/checkpoint/checkpoint.ts';
import { testFolder } from '../harness/clean-up.ts';

const TINY = path.join(PROJECT_ROOT, 'test', 'golden', 'tiny');

let folder: string;
beforeEach(() => {
  folder = testFolder();
});

const measures = {
  ...{
    efficacy: 0.9,
    efficacyGreedy: 0.8,
    preference: 1,
    paraphrase: 0.82,
    paraphraseArgmax: 0.6,
    neighboursUnchanged: 0.947,
    perplexityRatio: 1.001,
    ordinaryOpenShare: 0.04,
  },
  earliest: { asked: 3, efficacy: 1, efficacyGreedy: 1 },
  before: { efficacy: 0, preference: 0.1, paraphrase: null },
};
const reference: ReferenceResult = {
  ...{
    ...measures,
    corrections: 10,
    batches: 1,
    batchSize: 10,
    efficacyTokenByToken: 0,
    secondsPerCorrection: 20,
    peakRssBytes: 2.2e9,
  },
  ...{
    stages: { targets: 190, keys: 6, solve: 3, gate: 1 },
    secondsByBatch: [200],
    alphas: [2.2],
    parameters: {},
  },
  software: { python: '3.11.7', torch: '2.6.0', transformers: '4.53.3', device: 'cpu', threads: 2 },
};
const ours: BenchResult = {
  ...{
    ...measures,
    corrections: 30,
    batches: 3,
    batchSize: 10,
    superseded: 0,
    refused: 0,
    efficacy: 1,
    secondsPerCorrection: 0.8,
    peakRssBytes: 3e9,
  },
  stages: { context: 3, targets: 15, keys: 2, solve: 1, hook: 0.5, probes: 2, commit: 0.5 },
  secondsByBatch: [8, 8, 8],
};

describe('side by side', () => {
  it('says how many times longer the reference takes per correction', () => {
    expect(speedupOf(ours, reference)).toBe(25);
    const line = /^time per correction +0\.800 s +20\.000 s +25\.0 x$/m;
    expect(sideBySide(ours, reference)).toMatch(line);
  });

  it('compares stages per correction, each by its own count', () => {
    expect(sideBySide(ours, reference)).toMatch(/^ {2}context and targets +0\.600 s +19\.000 s$/m);
  });

  it('reports that the reference ran on fewer records only when it did', () => {
    expect(sideBySide(ours, reference)).toContain('the first 10 of the 30 records only');
    expect(sideBySide(ours, { ...reference, corrections: 30 })).not.toContain('records only');
  });

  it('shows a dash for a measure without probes', () => {
    const line = /^paraphrases p\(new\) > p\(old\) +- +82\.0 %$/m;
    expect(sideBySide({ ...ours, paraphrase: null }, reference)).toMatch(line);
  });

  it('rejects a reference answer with a missing or out-of-range measure', () => {
    const isTaken = (result: object) => referenceResultSchema.safeParse(result).success;
    expect(isTaken(reference)).toBe(true);
    const { efficacy: _, ...lacking } = reference;
    expect(isTaken(lacking)).toBe(false);
    expect(isTaken({ ...reference, neighboursUnchanged: 94.7 })).toBe(false);
  });
});

describe('the input of the reference', () => {
  const record = {
    case_id: 1,
    prompt: 'the capital of the old country is',
    subject: 'the old country',
    target_new: 'rome',
    ground_truth: 'london',
    paraphrases: ['of the old country the capital is'],
    neighbours: ['the town is'],
  };
  const referenceOf = async (records: unknown[]) => {
    const file = path.join(folder, 'records.json');
    await writeFile(file, JSON.stringify(records));
    const checkpoint = await openCheckpoint(path.join(TINY, 'llama'));
    await checkpoint.close();
    const { tokenizer } = checkpoint;
    return {
      tokenizer,
      told: referenceRecords(tokenizer, await readRecords(file, 0, records.length)),
    };
  };

  it('locates the subject in each text in the tokens of our engine', async () => {
    const { told, tokenizer } = await referenceOf([record]);
    const [first] = told;
    const upTo = ({ tokens, subjectLast }: { tokens: number[]; subjectLast: number }) =>
      tokenizer.decode(tokens.slice(0, subjectLast + 1)).trim();
    const { bare, behind, essence, target, own, paraphrases, neighbours } = first!;
    expect([bare, behind].map(upTo)).toEqual(Array(2).fill('the capital of the old country'));
    expect(upTo(essence)).toBe('the old country');
    expect(tokenizer.decode(target).trim()).toBe('rome');
    const [prompt, old] = [tokenizer.encode(record.prompt), tokenizer.encode(' london')];
    expect(own).toEqual({ prompt, target, old });
    expect(paraphrases).toHaveLength(1);
    expect(neighbours).toEqual([{ prompt: tokenizer.encode('the town is') }]);
  });

  it('edits a fact that a later record replaces, and excludes it from the measures', async () => {
    const later = { ...record, case_id: 2, target_new: 'berlin' };
    const { told } = await referenceOf([record, later]);
    expect(told.map(({ measured }) => measured)).toEqual([false, true]);
  });

  it('has our blocks, lambda = F, and the published search', () => {
    const ours = { parameters: { layers: [4, 5] }, model: { mlpWidth: 1536 } };
    const search = { alpha: 2.2, steps: 25, learningRate: 0.5 };
    expect(referenceParameters(ours)).toMatchObject({ layers: [4, 5], lambda: 1536, ...search });
  });
});

describe('the statistics that an engine worked with', () => {
  const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
  const whole = (text: string, layers: Record<number, string>) => {
    const lines = Object.entries(layers).map(([layer, bytes]) => `${layer} ${sha256(bytes)}\n`);
    return sha256(sha256(text) + lines.join(''));
  };

  it('are found by their hash, block by block', async () => {
    for (const identity of ['aa', 'bb']) {
      await writeFile(path.join(folder, `text-${identity}.json`), `text ${identity}`);
      await writeFile(path.join(folder, `keys-${identity}-4.safetensors`), `four ${identity}`);
    }
    await writeFile(path.join(folder, 'keys-bb-5.safetensors'), 'five bb');
    const hash = whole('text bb', { 4: 'four bb', 5: 'five bb' });
    const { text, moments } = await keptStatistics(folder, [4, 5], hash);
    expect(text).toBe(path.join(folder, 'text-bb.json'));
    const files = [4, 5].map((layer) => path.join(folder, `keys-bb-${layer}.safetensors`));
    expect(moments).toEqual(files);
  });

  it('are reported missing where a file has changed', async () => {
    await writeFile(path.join(folder, 'text-aa.json'), 'text');
    await writeFile(path.join(folder, 'keys-aa-4.safetensors'), 'changed');
    const kept = keptStatistics(folder, [4], whole('text', { 4: 'four' }));
    await expect(kept).rejects.toThrow('no key statistics');
  });
});

describe('the model written for PyTorch', () => {
  it('has the same numbers when it is read back', async () => {
    const original = await openCheckpoint(path.join(TINY, 'llama'));
    const copy = path.join(folder, 'model');
    await exportModel(original, copy, () => {});
    // Reading it needs a tokeniser, which is not written: the reference gets token ids.
    await copyFile(path.join(TINY, 'llama', 'tokenizer.json'), path.join(copy, 'tokenizer.json'));
    const read = await openCheckpoint(copy);
    expect(read.config).toEqual(original.config);
    const inBlocks = ['blocks.0.query.weight', 'blocks.1.down.weight', 'blocks.1.norm2.gain'];
    for (const name of ['embedding', 'finalNorm.gain', ...inBlocks])
      expect(await read.read(name)).toEqual(await original.read(name));
    await Promise.all([original.close(), read.close()]);
  });

  it('is refused for a structure that cannot be written, with a remedy', async () => {
    const checkpoint = await openCheckpoint(path.join(TINY, 'gpt2'));
    const exporting = exportModel(checkpoint, path.join(folder, 'model'), () => {});
    await expect(exporting).rejects.toThrow(NotExportable);
    await checkpoint.close();
  });
});

describe('the Python of the comparison', () => {
  it('is refused where the Python of ERRATA_PYTHON lacks the packages', async () => {
    const python = pythonWithTorch(folder, silentProgress, { ERRATA_PYTHON: 'false' });
    await expect(python).rejects.toThrow('ERRATA_PYTHON must name a Python');
  });

  it('is the one in ERRATA_PYTHON where it has the packages', async () => {
    expect(await pythonWithTorch(folder, silentProgress, { ERRATA_PYTHON: 'true' })).toBe('true');
  });
});
