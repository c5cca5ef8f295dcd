/**
 * The study of gates asks of the real engine what the fake cannot show: that a hook is held behind
 * the gate it is told.
 */
import { expect, it } from 'vitest';
import { openingsOn, ordinaryTexts } from '../../../bench/study/ordinary-text.ts';
import { LocalEngine } from '../../../model/engine/local-engine.ts';
import type { GateParameters } from '../../../schemas/editing.ts';
import { ADDON, tinyPath } from '../../model/tiny-model.ts';

const REQUESTS = [
  { id: 'a', subject: 'berlin', prompt: 'the old town of berlin is in', target: 'french' },
  { id: 'b', subject: 'tom', prompt: 'the author tom speaks', target: 'greek' },
];
const SCOPE: GateParameters = {
  kind: 'scope',
  map: 'joint',
  floor: 0.35,
  referenceQuantile: 0.995,
  nearKey: 0.8,
};

it('pairs made behind one gate are held behind any, the sequence gate with the reaches they came with', async () => {
  const engine = await LocalEngine.open({
    addonPath: ADDON,
    modelPath: tinyPath('llama'),
    statisticsFolder: null,
    textFile: null,
    parameters: { layers: [1, 2], stepsMax: 3 },
    reaches: true,
  });
  try {
    const { targets } = await engine.computeTargets(null, REQUESTS);
    const { pairs } = await engine.deriveUpdate(null, REQUESTS, targets);
    const { residualWidth } = (await engine.describe()).model;
    expect(pairs.valueWidth % residualWidth).toBe(1);

    expect((await engine.describe()).parameters.gate.map).toBe('subject');
    await engine.holdHook('own', pairs);
    await engine.holdHook('scope', pairs, SCOPE);
    const sequence = await engine.holdHook('sequence', pairs, {
      kind: 'sequence',
      map: 'joint',
      floor: 1e6,
      referenceQuantile: 1,
      nearKey: 1,
    });
    await engine.holdHook('always', pairs, {
      kind: 'always',
      map: 'joint',
      floor: 0,
      referenceQuantile: 1,
      nearKey: 1,
    });
    // A floor that no z-score reaches: what is left is the smallest reach.
    for (const { threshold } of sequence.layers) expect(threshold).toBeLessThan(100);

    const texts = await ordinaryTexts(engine, { sequences: 3, tokensPerSequence: 20, seed: 7 });
    expect(await ordinaryTexts(engine, { sequences: 3, tokensPerSequence: 20, seed: 7 })).toEqual(
      texts,
    );
    const always = await openingsOn(engine, 'always', texts);
    expect(always.openShare).toBe(1);
    for (const name of ['own', 'scope'])
      expect((await openingsOn(engine, name, texts)).openShare).toBeLessThan(1);
    expect(await openingsOn(engine, null, texts)).toEqual({ tokens: always.tokens, openShare: 0 });
  } finally {
    await engine.close();
  }
});
