/** Cached files of a model are read as written, made again, or refused by name. */
import fc from 'fast-check';
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { HASH_REMEMBERED_FROM_BYTES, weightsSha256 } from '../../model/checkpoint/identity.ts';
import { download64 } from '../../model/tensor/float64.ts';
import {
  disposeStatistics,
  keyStatistics,
  type KeyStatistics,
} from '../../model/statistics/key-statistics.ts';
import { keptPriors } from '../../model/statistics/prior-cache.ts';
import { buildPriors, disposePriors, type Prior } from '../../model/statistics/prior.ts';
import { raw } from '../../model/tensor/tensorflow.ts';
import { readSealed, writeSealed } from '../../model/tensor/whole-file.ts';
import { testFolder } from '../harness/clean-up.ts';
import { loadTiny, tinyText, type TinyModel } from '../harness/tiny-model.ts';
import type { HyperParameters } from '../../schemas/hyper-parameters.ts';
import { always, damaged, faultOf } from '../harness/odd-inputs.ts';

const LAYERS = [1];
const folder = testFolder();
let tiny: TinyModel;
beforeAll(async () => {
  writeFileSync(path.join(folder, 'ordinary.txt'), tinyText(9_000, 1));
  tiny = await loadTiny('llama');
});
afterAll(() => tiny?.close());

const take = () =>
  keyStatistics(tiny.model, tiny.checkpoint.tokenizer, {
    layers: LAYERS,
    textFile: path.join(folder, 'ordinary.txt'),
    folder: path.join(folder, 'statistics'),
    modelSha256: tiny.checkpoint.sha256,
    seed: 1,
    contexts: 2,
  });

test('a sealed file returns its content, unless it is damaged', async () => {
  const file = path.join(folder, 'sealed');
  await always(100, fc.uint8Array({ maxLength: 100 }), async (content) => {
    await writeSealed(file, content);
    expect(Buffer.from((await readSealed(file))!).equals(content)).toBe(true);
    const [flipped] = fc.sample(damaged(readFileSync(file)), 1);
    if (Buffer.from(flipped!).equals(readFileSync(file))) return;
    writeFileSync(file, flipped!);
    // A reader finds a leftover seal, or bytes that are not a seal.
    expect((await readSealed(file))!.length).toBe(flipped!.length);
  });
});

test('damaged key statistics are refused by name and leak no tensor', async () => {
  disposeStatistics(await take());
  const alive = raw.liveCount();
  const kept = path.join(folder, 'statistics');
  for (const name of readdirSync(kept)) {
    const file = path.join(kept, name);
    const sound = new Uint8Array(readFileSync(file));
    await always(25, damaged(sound), async (bytes) => {
      if (Buffer.from(bytes).equals(sound)) return;
      writeFileSync(file, bytes);
      const fault = await faultOf(take);
      expect(String(fault)).toContain(name);
      expect(String(fault)).toMatch(/damaged.*delete the file/s);
      expect(raw.liveCount()).toBe(alive);
    });
    writeFileSync(file, sound);
  }
  disposeStatistics(await take());
});

let statistics: KeyStatistics;
let builds = 0;
beforeAll(async () => {
  statistics = await take();
});
afterAll(() => disposeStatistics(statistics));
const parameters = { layers: LAYERS, lambda: 3, ridge: 0.01 } as unknown as HyperParameters;
const build = (): Map<number, Prior> => {
  builds++;
  return buildPriors(tiny.model, statistics, parameters);
};
const priors = () => keptPriors(build, statistics, parameters, path.join(folder, 'priors'));
const numbers = (some: Map<number, Prior>) =>
  [...some.values()].map(({ lower, weightNorm, prior_FF }) => [
    download64(lower),
    weightNorm,
    [...prior_FF.dataSync()],
  ]);

test('damaged priors are computed again with the same numbers', async () => {
  const first = await priors();
  const expected = numbers(first);
  disposePriors(first);
  const [name] = readdirSync(path.join(folder, 'priors'));
  const file = path.join(folder, 'priors', name!);
  const sound = new Uint8Array(readFileSync(file));
  const alive = raw.liveCount();
  await always(25, damaged(sound), async (bytes) => {
    writeFileSync(file, bytes);
    const before = builds;
    const again = await priors();
    expect(numbers(again)).toEqual(expected);
    disposePriors(again);
    expect(builds - before).toBe(Buffer.from(bytes).equals(sound) ? 0 : 1);
    expect(Buffer.from(sound).equals(readFileSync(file))).toBe(true);
    expect(raw.liveCount()).toBe(alive);
  });
});

test("an invalid stored hash of a model's weights is computed again", async () => {
  const weights = path.join(folder, 'weights.bin');
  const remembered = path.join(folder, '.weights-sha256.json');
  writeFileSync(weights, '');
  truncateSync(weights, HASH_REMEMBERED_FROM_BYTES);
  const sha256 = await weightsSha256([weights]);
  writeFileSync(
    remembered,
    readFileSync(remembered, 'utf8').replace(sha256, `${sha256.slice(1)}/`),
  );
  expect(await weightsSha256([weights])).toBe(sha256);
});
