import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FactRecord } from '../../../operations/tune/fact-records.ts';
import { tune, type TuneOptions } from '../../../operations/tune/tune.ts';
import type { Trial } from '../../../operations/tune/search.ts';
import { readModelShape } from '../../../model/checkpoint/checkpoint.ts';
import { parametersFor } from '../../../model/engine/parameters.ts';
import { readParameterSet } from '../../../schemas/hyper-parameters.ts';
import { ADDON, tinyPath, tinyText } from '../../harness/tiny-model.ts';

let folder: string;
let options: TuneOptions;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'errata-tune-tiny-'));
  const textFile = join(folder, 'ordinary.txt');
  await writeFile(textFile, tinyText(9_000, 1));
  options = {
    engine: {
      addonPath: ADDON,
      modelPath: tinyPath('llama'),
      statisticsFolder: join(folder, 'statistics'),
      textFile,
      parameters: { contexts: 1, stepsMax: 2, lambda: 5, layers: [0] },
    },
    records: ['rome', 'berlin', 'london', 'anna', 'tom', 'greek'].map(fact),
    batchEdits: 2,
    windows: null,
    lambdaFactors: [1, 3],
    windowsMax: 2,
    trialsFile: join(folder, 'trials'),
    fresh: false,
  };
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function fact(subject: string, i: number): FactRecord {
  const correction = {
    id: subject,
    lineage: 'l',
    subject,
    relation: null,
    prompt: `the capital of ${subject} is`,
    target: 'town',
    previousAnswer: 'river',
    paraphrases: [],
    neighbourhood: [],
    source: 's',
    issuedAt: i,
  };
  return {
    prompt: correction.prompt,
    target: 'town',
    old: 'river',
    paraphrases: [`the town of ${subject} is`],
    neighbours: ['the book of the author is'],
    revision: {
      kind: 'correction',
      factKey: subject,
      position: { topic: 't', partition: 0, offset: String(i) },
      correction,
    },
  };
}

async function run(changes: Partial<TuneOptions> = {}) {
  const trials: [Trial, boolean][] = [];
  const tuned = await tune(
    { ...options, ...changes },
    { trial: (trial, known) => trials.push([trial, known]) },
  );
  return { tuned, trials };
}

describe('tuning a tiny model', () => {
  it('looks at all layers, tries a grid, and writes a set that fits the model', async () => {
    const { tuned, trials } = await run();
    expect(tuned.look.traces).toHaveLength(4);
    expect(tuned.look.traces.every(({ trace }) => trace > 0)).toBe(true);
    expect(tuned.look.windows).toEqual([[1], [2]]);
    expect(trials.map(([{ round }]) => round).slice(0, 2)).toEqual(['windows', 'windows']);
    expect(trials.every(([, known]) => !known)).toBe(true);
    for (const [{ measures }] of trials) {
      expect(measures.perplexityRatio).toBeGreaterThan(0);
      expect(measures.efficacy).toBeGreaterThanOrEqual(0);
    }
    const set = readParameterSet('set', JSON.stringify(tuned.set));
    const { layers, lambda } = tuned.best.candidate;
    expect(set.parameters).toEqual({ contexts: 1, stepsMax: 2, layers, lambda });
    const [own, other] = [
      await readModelShape(tinyPath('llama')),
      await readModelShape(tinyPath('gptj')),
    ];
    expect(parametersFor(own.config, { ...set.parameters, fits: set.fits })).toMatchObject({
      layers,
      lambda,
      stepsMax: 2,
    });
    expect(() => parametersFor(other.config, { ...set.parameters, fits: set.fits })).toThrow(
      /another model/,
    );
  });

  it('repeats no trial of an earlier run unless other parameters are set', async () => {
    const { trials } = await run();
    expect(trials.every(([, known]) => known)).toBe(true);
    const kept = await readFile(options.trialsFile, 'utf8');
    const other = await run({
      trialsFile: join(folder, 'other'),
      batchEdits: 3,
      windows: [[1]],
      lambdaFactors: [1],
    });
    expect(other.trials.every(([, known]) => !known)).toBe(true);
    expect(await readFile(options.trialsFile, 'utf8')).toBe(kept);
  });

  it('refuses a window that the model lacks before any trial', async () => {
    await expect(run({ windows: [[3, 4]] })).rejects.toThrow(RangeError);
  });
});
