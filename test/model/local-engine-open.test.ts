import { readdirSync, readlinkSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineOptions } from '../../model/engine/loaded-model.ts';
import { LocalEngine } from '../../model/engine/local-engine.ts';
import { loadTensorFlow, raw } from '../../model/tensor/tensorflow.ts';
import { ADDON, tinyPath, tinyText } from '../harness/tiny-model.ts';

let folder: string;
let options: EngineOptions;
beforeAll(async () => {
  loadTensorFlow(ADDON);
  folder = await mkdtemp(path.join(tmpdir(), 'errata-open-'));
  await writeFile(path.join(folder, 'short.txt'), tinyText(5, 1));
  await writeFile(path.join(folder, 'ordinary.txt'), tinyText(9_000, 1));
  options = {
    addonPath: ADDON,
    modelPath: tinyPath('llama'),
    statisticsFolder: null,
    textFile: path.join(folder, 'ordinary.txt'),
    parameters: { layers: [1, 2], contexts: 2 },
  };
  // TensorFlow and tfjs allocate their permanent tensors the first time.
  await (await LocalEngine.open(options)).close();
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Files of the tiny model that this process has open. */
const openFiles = (): string[] =>
  readdirSync('/proc/self/fd').flatMap((descriptor) => {
    try {
      return [readlinkSync(`/proc/self/fd/${descriptor}`)].filter((file) =>
        file.startsWith(tinyPath('llama')),
      );
    } catch {
      return [];
    }
  });

describe('an engine that cannot be opened', () => {
  const faults: [string, () => Promise<unknown>][] = [
    [
      'for its hyper-parameters',
      () => LocalEngine.open({ ...options, parameters: { ...options.parameters, layers: [99] } }),
    ],
    [
      'for the text of its key statistics',
      () => LocalEngine.open({ ...options, textFile: path.join(folder, 'short.txt') }),
    ],
    [
      'for its priors',
      () =>
        LocalEngine.open(options, (step) => {
          if (step === 'inverting key statistics') throw new Error('no inverse');
        }),
    ],
    [
      'at the last moment',
      () =>
        LocalEngine.open(options, (step, share) => {
          if (step === 'inverting key statistics' && share === 1) throw new Error('too late');
        }),
    ],
  ];

  it.each(faults)('leaves neither tensors nor open files: %s', async (_, open) => {
    const before = raw.liveCount();
    await expect(open()).rejects.toThrow();
    expect(raw.liveCount()).toBe(before);
    expect(openFiles()).toEqual([]);
  });

  it('differs from an open one, which has both', async () => {
    const before = raw.liveCount();
    const engine = await LocalEngine.open(options);
    expect(raw.liveCount()).toBeGreaterThan(before);
    expect(openFiles()).not.toEqual([]);
    await engine.close();
    expect(raw.liveCount()).toBe(before);
    expect(openFiles()).toEqual([]);
  });
});
