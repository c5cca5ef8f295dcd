import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FactRecord } from '../../../operations/tune/fact-records.ts';
import { nameOf, windowsOf, type Candidate } from '../../../operations/tune/grid.ts';
import { halves, scoreOf, searchParameters, type Search } from '../../../operations/tune/search.ts';
import { BadTrialLog, trialLogAt, type Measures } from '../../../operations/tune/trial-log.ts';
import type { ModelConfig } from '../../../model/checkpoint/checkpoint.ts';
import { parametersFor } from '../../../model/engine/parameters.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'errata-tune-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const MODEL: ModelConfig = {
  architecture: 'llama',
  layers: 30,
  residualWidth: 576,
  mlpWidth: 1536,
  heads: 9,
  keyValueHeads: 3,
  headWidth: 64,
  vocabulary: 49_152,
  contextMax: 8192,
  normEpsilon: 1e-5,
  rotary: null,
  activation: 'silu',
  tiedEmbeddings: true,
};
/** The project's own parameter set for this model. */
const PRESENT = parametersFor(MODEL);

function fact(subject: string, relation = 'home'): FactRecord {
  const correction = {
    id: `${subject}-${relation}`,
    lineage: 'l',
    subject,
    relation,
    prompt: `The ${relation} of ${subject} is`,
    target: 'x',
    previousAnswer: 'y',
    paraphrases: [],
    neighbourhood: [],
    source: 's',
    issuedAt: 0,
  };
  return {
    prompt: correction.prompt,
    target: 'x',
    old: 'y',
    paraphrases: [],
    neighbours: [],
    revision: {
      kind: 'correction',
      factKey: `${subject}|${relation}`,
      position: { topic: 't', partition: 0, offset: '0' },
      correction,
    },
  };
}

const facts = Array.from({ length: 20 }, (_, i) => fact(`s${i}`));
const good: Measures = {
  efficacy: 1,
  paraphrase: 0.9,
  neighboursUnchanged: 0.95,
  perplexityRatio: 1.001,
};

/** A model that is best edited at layers 4-8 with lambda 0.3 F. */
function measuresOf({ layers, lambdaFactor }: Candidate): Measures {
  const off = Math.abs(layers[0]! - 4);
  return { ...good, efficacy: Math.max(0, 0.9 - 0.5 * off + (lambdaFactor === 0.3 ? 0.05 : 0)) };
}

async function search(changes: Partial<Search> = {}) {
  const tried: [string, number][] = [];
  const result = await searchParameters({
    config: MODEL,
    windows: windowsOf(MODEL, [11]),
    lambdaFactors: [0.3, 1, 3],
    facts: halves(facts),
    identity: 'model',
    log: await trialLogAt(join(folder, 'trials'), false),
    async tryOut(candidate, on) {
      tried.push([nameOf(candidate), on.length]);
      return measuresOf(candidate);
    },
    report: () => {},
    ...changes,
  });
  return { result, tried };
}

describe('candidate windows', () => {
  it('avoid layers with massive keys, and include the present window', () => {
    const windows = windowsOf(MODEL, [11]);
    expect(windows).toHaveLength(5);
    for (const layers of windows) {
      expect(layers).toHaveLength(5);
      expect(layers).not.toContain(11);
      expect(layers.at(-1)).toBeLessThanOrEqual(18);
    }
    expect(windows).toContainEqual([4, 5, 6, 7, 8]);
    expect(new Set(windows.map(String)).size).toBe(5);
  });

  it('narrow where massive layers leave no room, and are refused without any room', () => {
    const everyThird = Array.from({ length: 10 }, (_, i) => 3 * i);
    for (const layers of windowsOf(MODEL, everyThird)) expect(layers).toHaveLength(2);
    expect(() =>
      windowsOf(
        MODEL,
        Array.from({ length: 30 }, (_, i) => i),
      ),
    ).toThrow(RangeError);
  });

  it('exist for models of few layers', () => {
    expect(windowsOf({ ...MODEL, layers: 4 }, [])).toEqual([[1], [2]]);
    expect(windowsOf({ ...MODEL, layers: 2 }, [])).toHaveLength(1);
  });
});

describe('the search', () => {
  it('finds the best window and lambda, using more facts in each round', async () => {
    const { result, tried } = await search();
    expect(result.best.candidate).toMatchObject({ layers: [4, 5, 6, 7, 8], lambdaFactor: 0.3 });
    expect(result.best.candidate.lambda).toBeCloseTo(0.3 * 1536);
    expect(result.present?.candidate.lambda).toBe(PRESENT.lambda);
    expect(tried.slice(0, 5).map(([, count]) => count)).toEqual([5, 5, 5, 5, 5]);
    expect(tried.slice(5).every(([, count]) => count === 10)).toBe(true);
  });

  it('prefers the lambda nearest to F if others are no better', async () => {
    const { result } = await search({ tryOut: async () => good });
    expect(result.best.candidate.lambdaFactor).toBe(1);
  });

  it('drops clearly worse windows early', async () => {
    const { result } = await search();
    const second = result.trials.filter(({ round }) => round === 'lambda');
    expect(new Set(second.map(({ candidate }) => candidate.layers[0]))).toEqual(new Set([4]));
  });

  it('validates on facts that were not used for tuning', async () => {
    const seen: { round: string; prompts: string[] }[] = [];
    await search({
      async tryOut(candidate, on) {
        seen.push({ round: nameOf(candidate), prompts: on.map(({ prompt }) => prompt) });
        return measuresOf(candidate);
      },
    });
    const validation = new Set(halves(facts).validation.map(({ prompt }) => prompt));
    const withValidation = seen.filter(({ prompts }) =>
      prompts.some((prompt) => validation.has(prompt)),
    );
    expect(withValidation.map(({ round }) => round)).toEqual([
      'layers 4-8, lambda 0.3 F',
      nameOf({ ...PRESENT, lambdaFactor: PRESENT.lambda / MODEL.mlpWidth }),
    ]);
    expect(
      withValidation.every(({ prompts }) => prompts.every((prompt) => validation.has(prompt))),
    ).toBe(true);
  });

  it('continues after a stop, and starts again for another model', async () => {
    let left = 4;
    const stopping: Partial<Search> = {
      async tryOut(candidate) {
        if (left-- === 0) throw new Error('stopped');
        return measuresOf(candidate);
      },
    };
    await expect(search(stopping)).rejects.toThrow('stopped');
    const again = await search();
    const whole = await search({ log: await trialLogAt(join(folder, 'other'), false) });
    expect(again.tried.length).toBe(whole.tried.length - 4);
    expect(again.result).toEqual(whole.result);
    expect((await search()).tried).toEqual([]);
    expect((await search({ identity: 'another model' })).tried.length).toBe(whole.tried.length);
    expect(
      (await search({ log: await trialLogAt(join(folder, 'trials'), true) })).tried.length,
    ).toBe(whole.tried.length);
  });

  it('requires facts for both halves', async () => {
    await expect(search({ facts: halves([fact('a')]) })).rejects.toThrow(RangeError);
  });
});

describe('the score', () => {
  it('is the harmonic mean of the measures, and negative if ordinary text suffers', () => {
    expect(scoreOf({ ...good, paraphrase: null, neighboursUnchanged: null })).toBe(1);
    expect(
      scoreOf({ ...good, efficacy: 1, paraphrase: 0.5, neighboursUnchanged: null }),
    ).toBeCloseTo(2 / 3);
    expect(scoreOf({ ...good, neighboursUnchanged: 0 })).toBe(0);
    expect(scoreOf({ ...good, perplexityRatio: 1.5 })).toBeLessThan(0);
  });
});

describe('the halves', () => {
  it('keep the facts of one subject together', () => {
    const { tuning, validation } = halves([fact('a'), fact('b'), fact('a', 'job'), fact('c')]);
    expect(tuning.map(({ prompt }) => prompt)).toEqual([
      'The home of a is',
      'The job of a is',
      'The home of c is',
    ]);
    expect(validation.map(({ prompt }) => prompt)).toEqual(['The home of b is']);
  });
});

describe('the log of trials', () => {
  it('is refused if the file is something else', async () => {
    writeFileSync(join(folder, 'trials'), '{"a": 1}');
    await expect(trialLogAt(join(folder, 'trials'), false)).rejects.toThrow(BadTrialLog);
  });
});
