import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LocalEngine } from '../../model/engine/local-engine.ts';
import { loadTensorFlow } from '../../model/tensor/tensorflow.ts';
import { ADDON, tinyPath, tinyText } from '../harness/tiny-model.ts';

describe('an explanation of shut gates', () => {
  let folder: string;
  let engine: LocalEngine;
  beforeAll(async () => {
    loadTensorFlow(ADDON);
    folder = await mkdtemp(path.join(tmpdir(), 'errata-shut-'));
    await writeFile(path.join(folder, 'ordinary.txt'), tinyText(9_000, 1));
    // A key's cosine to itself is 1 except for rounding: with this floor the gate never opens.
    engine = await LocalEngine.open({
      addonPath: ADDON,
      modelPath: tinyPath('llama'),
      statisticsFolder: path.join(folder, 'statistics'),
      textFile: path.join(folder, 'ordinary.txt'),
      parameters: {
        layers: [1, 2],
        contexts: 3,
        contextsPerStep: 3,
        stepsMax: 12,
        learningRate: 0.5,
        lambda: 4,
        gate: { kind: 'subject', map: 'subject', floor: 0.999 },
      },
    });
    const requests = [
      { id: 'tom', subject: 'tom', prompt: 'the mother tongue of tom is', target: 'greek' },
      { id: 'anna', subject: 'anna', prompt: 'the piano of anna is', target: 'rome' },
    ];
    const { targets } = await engine.computeTargets(null, requests);
    await engine.holdHook('edited', (await engine.deriveUpdate(null, requests, targets)).pairs);
  }, 60_000);
  afterAll(async () => {
    await engine.close();
    await rm(folder, { recursive: true, force: true });
  });
  const generate = (prompt: string, explain: boolean) =>
    engine.generate('edited', prompt, { tokensMax: 2, temperature: 0, explain });

  it('names the token, the distance to opening, and the nearest correction', async () => {
    const { opened, shut, text } = await generate('her book was born and anna speaks', true);
    expect(opened).toEqual([]);
    expect(shut).toHaveLength(1);
    expect(shut![0]).toMatchObject({
      layer: 1,
      nearestRow: 1,
      threshold: expect.closeTo(0.999) as number,
    });
    expect(shut![0]!.score).toBeLessThan(0.999);
    expect(text).toBe(
      (
        await engine.generate(null, 'her book was born and anna speaks', {
          tokensMax: 2,
          temperature: 0,
        })
      ).text,
    );
  });

  it('is empty where a gate opened or no subject is named; absent unless requested', async () => {
    expect(await generate('the mother tongue of tom is', true)).toMatchObject({ shut: [] });
    expect((await generate('the mother tongue of tom is', true)).opened.length).toBeGreaterThan(0);
    expect(await generate('the capital of old country is', true)).toMatchObject({
      opened: [],
      shut: [],
    });
    expect(await generate('her book was born and anna speaks', false)).not.toHaveProperty('shut');
  });
});
