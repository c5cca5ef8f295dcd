import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LocalEngine } from '../../../model/engine/local-engine.ts';
import { tinyEngineOptions } from '../../harness/tiny-engine.ts';

const EDITED = ['the mother tongue of tom is', 'the piano of anna is'];
const PROMPTS = [
  ...EDITED,
  'her book was born and anna speaks',
  'tom',
  'the capital of old country is',
  'anna and tom and anna went to the old',
];

describe.each(['llama', 'gpt2', 'gptj'] as const)(
  "the base model's answer beside a version's, %s",
  (model) => {
    let engine: LocalEngine;
    beforeAll(async () => {
      engine = await LocalEngine.open(tinyEngineOptions({}, model));
      const requests = [
        { id: 'tom', subject: 'tom', prompt: EDITED[0]!, target: 'greek' },
        { id: 'anna', subject: 'anna', prompt: EDITED[1]!, target: 'rome' },
      ];
      const { targets } = await engine.computeTargets(null, requests);
      await engine.holdHook('edited', (await engine.deriveUpdate(null, requests, targets)).pairs);
    }, 60_000);
    afterAll(() => engine.close());

    it('equals the answers of both alone, with the same gates, and leaks nothing', async () => {
      const options = { tokensMax: 12, temperature: 0 };
      const tensors = tf.memory().numTensors;
      let opened = 0;
      for (const prompt of PROMPTS) {
        const alone = await engine.generate('edited', prompt, { ...options, explain: true });
        const base = await engine.generate(null, prompt, options);
        const both = await engine.generate('edited', prompt, {
          ...options,
          explain: true,
          besideBase: true,
        });
        expect({ ...both, opened: [], shut: [] }).toEqual({
          ...alone,
          opened: [],
          shut: [],
          base: { text: base.text, finish: base.finish },
        });
        const places = (of: typeof both) =>
          [...of.opened, ...of.shut!].map(({ position, layer, nearestRow }) => [
            position,
            layer,
            nearestRow,
          ]);
        expect(places(both)).toEqual(places(alone));
        opened += both.opened.length;
      }
      expect(opened).toBeGreaterThan(0);
      expect(tf.memory().numTensors).toBe(tensors);
    });

    it('is the base model’s own answer, and is refused unless greedy', async () => {
      const { text, finish, base } = await engine.generate(null, PROMPTS[0]!, {
        tokensMax: 3,
        temperature: 0,
        besideBase: true,
      });
      expect(base).toEqual({ text, finish });
      await expect(
        engine.generate('edited', PROMPTS[0]!, { tokensMax: 3, temperature: 1, besideBase: true }),
      ).rejects.toThrow(RangeError);
    });
  },
);
