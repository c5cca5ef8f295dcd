import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../../model/checkpoint/checkpoint.ts';
import { download64, type Matrix64 } from '../../../model/tensor/float64.ts';
import {
  disposeStatistics,
  keysOf,
  keyStatistics,
  type KeyStatistics,
  type StatisticsOptions,
} from '../../../model/statistics/key-statistics.ts';
import { sequenceLosses } from '../../../model/network/perplexity.ts';
import { raw } from '../../../model/tensor/tensorflow.ts';
import type { Transformer } from '../../../model/network/transformer.ts';
import { largestDifference } from '../../golden/read-golden.ts';
import { loadTiny, TINY_MODELS, tinyText, type TinyModel } from '../../harness/tiny-model.ts';

/** A float32 product of keys against the same sum in float64. */
const MOMENT_TOLERANCE = 1e-5;

let folder: string;
let textFile: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'errata-statistics-'));
  textFile = path.join(folder, 'ordinary.txt');
  await writeFile(textFile, tinyText(9_000, 1));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe.each(TINY_MODELS)('key statistics of a tiny %s', (name) => {
  let tiny: TinyModel;
  const loaded: KeyStatistics[] = [];
  const options = (changes: Partial<StatisticsOptions> = {}): StatisticsOptions => ({
    layers: [1, 2],
    textFile,
    folder: null,
    modelSha256: tiny.checkpoint.sha256,
    seed: 1,
    contexts: 3,
    ...changes,
  });
  const take = async (changes: Partial<StatisticsOptions> = {}): Promise<KeyStatistics> => {
    const statistics = await keyStatistics(tiny.model, tiny.checkpoint.tokenizer, options(changes));
    loaded.push(statistics);
    return statistics;
  };

  beforeAll(async () => {
    tiny = await loadTiny(name);
  });
  afterAll(async () => {
    loaded.forEach(disposeStatistics);
    await tiny.close();
  });

  it('fit the model’s context, from a text and from its own samples alike', async () => {
    for (const statistics of [await take(), await take({ textFile: null })]) {
      const { contextMax } = tiny.model.config;
      expect(statistics.canary.length).toBeGreaterThan(10);
      for (const sequence of statistics.canary) {
        expect(sequence.length).toBeLessThanOrEqual(contextMax);
        expect(sequence[0]).toBe(0);
        expect(sequence.every((token) => token >= 0 && token < tiny.model.config.vocabulary)).toBe(
          true,
        );
      }
      expect(statistics.contexts).toHaveLength(3);
      for (const context of statistics.contexts) expect(context.length).toBeGreaterThan(0);
      expect(statistics.tokens).toBeGreaterThan(4 * tiny.model.config.mlpWidth);
      expect(statistics.canaryLoss.every((loss) => Number.isFinite(loss) && loss > 0)).toBe(true);
      const again = sequenceLosses(tiny.model, statistics.canary, null);
      expect(largestDifference(statistics.canaryLoss, again)).toBeLessThan(1e-3);
    }
  });

  it('leak nothing once they are disposed', async () => {
    const before = [raw.liveCount(), tf.memory().numTensors];
    disposeStatistics(await keyStatistics(tiny.model, tiny.checkpoint.tokenizer, options()));
    expect([raw.liveCount(), tf.memory().numTensors]).toEqual(before);
  });
});

let tiny: TinyModel;
beforeAll(async () => {
  tiny = await loadTiny('llama');
});
afterAll(() => tiny.close());

const take = (changes: Partial<StatisticsOptions> = {}, model: Transformer = tiny.model) =>
  keyStatistics(model, tiny.checkpoint.tokenizer, {
    layers: [1],
    textFile,
    folder: null,
    modelSha256: 'f'.repeat(64),
    seed: 1,
    contexts: 2,
    ...changes,
  });

it('key statistics are the mean of k k^T over the ordinary tokens', async () => {
  const statistics = await take();
  const { tokenizer } = tiny.checkpoint;
  const F = tiny.model.config.mlpWidth;
  // The text cut as the docstring describes: 63 tokens behind the leading one, the first 57 pieces
  // held out.
  const tokens = tinyText(9_000, 1)
    .split(/(?<=\n)/u)
    .flatMap((line) => tokenizer.encode(line));
  const pieces = Array.from({ length: 63 }, (_, i) => [0, ...tokens.slice(i * 63, (i + 1) * 63)]);
  expect(statistics.canary[0]).toEqual(pieces[0]!.slice(0, 49));
  expect(statistics.tokens).toBe(6 * 63);
  const keys = keysOf(tiny.model, pieces.slice(57), [1]).get(1)!;
  const moment = tf.tidy(() =>
    tf.div(tf.matMul(keys, keys, true, false), keys.shape[0]).dataSync(),
  );
  expect(keys.shape).toEqual([6 * 63, F]);
  expect(largestDifference(download64(statistics.moments.get(1)!), moment)).toBeLessThan(
    MOMENT_TOLERANCE,
  );
  keys.dispose();
  disposeStatistics(statistics);
});

it('key statistics have the same numbers when taken and when read from the cache', async () => {
  const cache = path.join(folder, 'cache');
  const [taken, restored] = [await take({ folder: cache }), await take({ folder: cache })];
  expect(await readdir(cache)).toEqual([
    expect.stringMatching(/^keys-[0-9a-f]{32}-1\.safetensors$/),
    expect.stringMatching(/^text-[0-9a-f]{32}\.json$/),
  ]);
  const plain = ({ moments, ...rest }: KeyStatistics) => ({
    ...rest,
    moments: [...moments].map(([layer, moment]: [number, Matrix64]) => [
      layer,
      moment.rows,
      moment.columns,
      download64(moment),
    ]),
  });
  expect(plain(restored)).toEqual(plain(taken));
  expect(restored.sha256).toMatch(/^[0-9a-f]{64}$/);
  const another = await take();
  expect(plain(another)).toEqual(plain(taken));
  [taken, restored, another].forEach(disposeStatistics);
});

it('key statistics are retaken for another text, model, seed, contexts or block', async () => {
  const cache = path.join(folder, 'identities');
  const other = path.join(folder, 'other', 'ordinary.txt');
  await mkdir(path.dirname(other));
  await writeFile(other, tinyText(9_000, 2));
  const changes: [Partial<StatisticsOptions>, number][] = [
    [{}, 2],
    [{ textFile: other }, 2],
    [{ modelSha256: 'e'.repeat(64) }, 2],
    [{ layers: [2] }, 1],
    [{ layers: [1, 2] }, 0],
    [{ seed: 2 }, 2],
    [{ contexts: 1 }, 2],
    [{ textFile: null }, 2],
    [{ textFile: null, seed: 2 }, 2],
  ];
  let files = 0;
  for (const [change, more] of changes) {
    disposeStatistics(await take({ folder: cache, ...change }));
    files += more;
    expect(await readdir(cache), JSON.stringify(change)).toHaveLength(files);
  }
});

it('key statistics of several blocks are the same taken at once or in turn', async () => {
  const cache = path.join(folder, 'one-by-one');
  disposeStatistics(await take({ folder: cache, layers: [2] }));
  const [grown, atOnce] = [
    await take({ folder: cache, layers: [1, 2] }),
    await take({ layers: [1, 2] }),
  ];
  expect([...grown.moments.keys()]).toEqual([1, 2]);
  expect(grown.sha256).toBe(atOnce.sha256);
  [grown, atOnce].forEach(disposeStatistics);
});

it('key statistics say which cached file is damaged', async () => {
  const cache = path.join(folder, 'damaged');
  disposeStatistics(await take({ folder: cache }));
  for (const file of await readdir(cache)) {
    const whole = await readFile(path.join(cache, file));
    await writeFile(path.join(cache, file), 'not what it was');
    await expect(take({ folder: cache })).rejects.toThrow(file);
    await writeFile(path.join(cache, file), whole);
  }
});

it('key statistics refuse a text with too few tokens', async () => {
  const short = path.join(folder, 'short.txt');
  await writeFile(short, tinyText(300, 1));
  await expect(take({ textFile: short })).rejects.toThrow(
    /the text for the key statistics has \d+ tokens, at least 3969 are needed/,
  );
});

it('key statistics read a text of one long line', async () => {
  const long = path.join(folder, 'line.txt');
  await writeFile(long, 'the town '.repeat(200_000));
  const statistics = await take({ textFile: long });
  expect(statistics.tokens).toBe(6 * 63);
  disposeStatistics(statistics);
});

it('key statistics refuse a model whose context holds no text', async () => {
  const narrow = Object.create(tiny.model, {
    config: { value: { ...tiny.model.config, contextMax: 8 } satisfies ModelConfig },
  }) as Transformer;
  await expect(take({}, narrow)).rejects.toThrow(/context is 8 tokens/);
});

it('key statistics report their progress up to the end', async () => {
  const told: [string, number][] = [];
  disposeStatistics(
    await take({ textFile: null, progress: (step, share) => told.push([step, share]) }),
  );
  expect(new Set(told.map(([step]) => step))).toEqual(
    new Set(['sampling ordinary text', 'taking key statistics']),
  );
  for (const step of new Set(told.map(([name]) => name))) {
    const shares = told.filter(([name]) => name === step).map(([, share]) => share);
    expect(shares).toEqual(shares.toSorted((a, b) => a - b));
    expect(shares.at(-1)).toBe(1);
  }
});
