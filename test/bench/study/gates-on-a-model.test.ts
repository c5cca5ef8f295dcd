/** Hooks behind a gate that the caller chooses, which the fake engine cannot show. */
import { expect, it } from 'vitest';
import { openingsOn, ordinaryTexts } from '../../../bench/study/ordinary-text.ts';
import { LocalEngine } from '../../../model/engine/local-engine.ts';
import type { GateParameters } from '../../../schemas/hyper-parameters.ts';
import { ADDON, tinyPath } from '../../harness/tiny-model.ts';

const REQUESTS = [
  { id: 'a', subject: 'berlin', prompt: 'the old town of berlin is in', target: 'french' },
  { id: 'b', subject: 'tom', prompt: 'the author tom speaks', target: 'greek' },
];
const SHUT: GateParameters = { kind: 'subject', map: 'joint', floor: 1e6 };
const ALWAYS: GateParameters = { kind: 'always', map: 'joint', floor: 0 };

it('pairs made behind one gate can be held behind any gate', async () => {
  const engine = await LocalEngine.open({
    addonPath: ADDON,
    modelPath: tinyPath('llama'),
    statisticsFolder: null,
    textFile: null,
    parameters: { layers: [1, 2], stepsMax: 3 },
  });
  try {
    const { targets } = await engine.computeTargets(null, REQUESTS);
    const { pairs } = await engine.deriveUpdate(null, REQUESTS, targets);
    expect((await engine.describe()).parameters.gate.map).toBe('subject');
    await engine.holdHook('own', pairs);
    await engine.holdHook('shut', pairs, SHUT);
    await engine.holdHook('always', pairs, ALWAYS);

    const asked = { sequences: 3, tokensPerSequence: 20, seed: 7 };
    const texts = await ordinaryTexts(engine, asked);
    expect(await ordinaryTexts(engine, asked)).toEqual(texts);
    const always = await openingsOn(engine, 'always', texts);
    expect(always.openShare).toBe(1);
    expect((await openingsOn(engine, 'own', texts)).openShare).toBeLessThan(1);
    expect((await openingsOn(engine, 'shut', texts)).openShare).toBe(0);
    expect(await openingsOn(engine, null, texts)).toEqual({ tokens: always.tokens, openShare: 0 });
  } finally {
    await engine.close();
  }
});
