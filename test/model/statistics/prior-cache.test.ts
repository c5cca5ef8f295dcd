import * as tf from '@tensorflow/tfjs-core';
import { mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../../infra/config/home.ts';
import { download64, upload64 } from '../../../model/tensor/float64.ts';
import type { KeyStatistics } from '../../../model/statistics/key-statistics.ts';
import { keptPriors } from '../../../model/statistics/prior-cache.ts';
import { disposePriors, type Prior } from '../../../model/statistics/prior.ts';
import { loadTensorFlow, raw } from '../../../model/tensor/tensorflow.ts';

const F = 3;
const LAYERS = [4, 5];
const PARAMETERS = { layers: LAYERS, lambda: 3, ridge: 0 };

let folder: string;
let statistics: KeyStatistics;
let alive: number;
let builds: number;

beforeAll(() => {
  loadTensorFlow(homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon);
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'errata-priors-'));
  builds = 0;
  statistics = {
    moments: new Map(),
    tokens: 0,
    source: 'a test',
    sha256: 'a'.repeat(64),
    canary: [],
    canaryLoss: [],
    contexts: [],
  };
  alive = raw.liveCount();
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function build(): Map<number, Prior> {
  builds += 1;
  return new Map(
    LAYERS.map((layer) => [
      layer,
      {
        layer,
        lower: upload64(
          Float64Array.from({ length: F * F }, (_, i) => layer + 1 / (i + 3)),
          F,
          F,
        ),
        prior_FF: tf.fill([F, F], layer / 7),
        residualWidth: 2,
        weightNorm: layer / 3,
        ridge: 1e-8,
      },
    ]),
  );
}

const numbersOf = (priors: Map<number, Prior>) =>
  [...priors.values()].map(({ lower, prior_FF, ...rest }) => ({
    ...rest,
    lower: [...download64(lower)],
    prior: [...prior_FF.dataSync()],
  }));

describe('cached priors', () => {
  it('are built once, with the same numbers when built and when read', async () => {
    const first = await keptPriors(build, statistics, PARAMETERS, folder);
    const second = await keptPriors(build, statistics, PARAMETERS, folder);
    expect(builds).toBe(1);
    expect(numbersOf(second)).toEqual(numbersOf(first));
    const built = build();
    numbersOf(built).forEach((exact, i) => {
      const kept = numbersOf(first)[i]!;
      expect({ ...kept, lower: [] }).toEqual({ ...exact, lower: [] });
      // TensorFlow returns a float64 as a pair of float32: 48 bits.
      kept.lower.forEach((value, at) =>
        expect(Math.abs(value / exact.lower[at]! - 1)).toBeLessThan(1e-13),
      );
    });
    for (const priors of [first, second, built]) disposePriors(priors);
    expect(raw.liveCount()).toBe(alive);
  });

  it('are rebuilt for other hyper-parameters or other statistics', async () => {
    for (const [given, parameters] of [
      [statistics, PARAMETERS],
      [statistics, { ...PARAMETERS, lambda: 4 }],
      [{ ...statistics, sha256: 'b'.repeat(64) }, PARAMETERS],
    ] as const) {
      disposePriors(await keptPriors(build, given, parameters, folder));
    }
    expect(builds).toBe(3);
  });

  it('are rebuilt if a file is truncated, without leaking tensors', async () => {
    disposePriors(await keptPriors(build, statistics, PARAMETERS, folder));
    truncateSync(join(folder, readdirSync(folder)[0]!), 100);
    disposePriors(await keptPriors(build, statistics, PARAMETERS, folder));
    expect(builds).toBe(2);
    expect(raw.liveCount()).toBe(alive);
  });

  it('are not written without a folder', async () => {
    disposePriors(await keptPriors(build, statistics, PARAMETERS, null));
    disposePriors(await keptPriors(build, statistics, PARAMETERS, null));
    expect(builds).toBe(2);
  });
});
