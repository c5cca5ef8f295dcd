import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { EditRequest, PairSet, TargetProgress } from '../../../model/engine-types.ts';
import { HOOKS_HELD_MAX } from '../../../model/engine/engine.ts';
import { HookNotHeld, LocalEngine } from '../../../model/engine/local-engine.ts';
import { raw } from '../../../model/tensor/tensorflow.ts';
import { tinyEngineOptions } from '../../harness/tiny-engine.ts';
import { TINY_MODELS } from '../../harness/tiny-model.ts';

const REQUESTS: EditRequest[] = [
  {
    id: 'country',
    subject: 'the old country',
    prompt: 'the capital of the old country is',
    target: 'rome',
  },
  { id: 'tom', subject: 'tom', prompt: 'the mother tongue of tom is', target: 'greek' },
  {
    id: 'company',
    subject: 'the company',
    prompt: 'the headquarters of the company is in',
    target: 'berlin',
  },
];
const ONE_TOKEN = REQUESTS.map((request, i) => ({ ...request, target: ['in', 'and', 'his'][i]! }));

async function write(
  engine: LocalEngine,
  hookId: string | null,
  requests: EditRequest[],
): Promise<PairSet> {
  const { targets, refused } = await engine.computeTargets(hookId, requests);
  expect(refused).toEqual([]);
  const derived = await engine.deriveUpdate(hookId, requests, targets);
  expect(derived.refused).toEqual([]);
  expect(derived.ids).toEqual(requests.map(({ id }) => id));
  return derived.pairs;
}

/** An engine of each tiny model, which holds the hook `three` of these pairs. */
const edited = new Map<string, { engine: LocalEngine; pairs: PairSet }>();
beforeAll(async () => {
  for (const name of TINY_MODELS) {
    const engine = await LocalEngine.open(tinyEngineOptions({}, name));
    const pairs = await write(engine, null, ONE_TOKEN);
    await engine.holdHook('three', pairs);
    edited.set(name, { engine, pairs });
  }
});
afterAll(async () => {
  for (const { engine } of edited.values()) await engine.close();
});

it.each(TINY_MODELS)(
  'a tiny %s searches with other facts of the subject, each once',
  async (name) => {
    const { engine } = edited.get(name)!;
    const request = ONE_TOKEN[1]!;
    const other = { prompt: 'the daughter of tom is', target: 'his' };
    const targetsOf = async (alongside?: EditRequest['alongside']) =>
      (
        await engine.computeTargets(null, [
          { ...request, ...(alongside === undefined ? {} : { alongside }) },
        ])
      ).targets;
    const alone = await targetsOf();
    const both = await targetsOf([other]);
    expect(both.ids).toEqual(alone.ids);
    expect(both.values.length).toBe(alone.values.length);
    expect(both.values).not.toEqual(alone.values);
    expect(await targetsOf([other, other])).toEqual(both);
    expect(await targetsOf([{ prompt: 'nobody is named here', target: 'his' }])).toEqual(alone);
  },
);

it.each(TINY_MODELS)(
  'a tiny %s makes targets likelier, and each open gate names its correction',
  async (name) => {
    const { engine, pairs } = edited.get(name)!;
    const { parameters, model } = await engine.describe();
    expect(pairs).toMatchObject({
      layers: [1, 2],
      count: 3,
      keyWidth: 2 * model.mlpWidth,
      valueWidth: 2 * model.residualWidth,
    });
    const probes = ONE_TOKEN.map(({ prompt, target }) => ({ prompt, target, greedyTokensMax: 1 }));
    const [before, after] = [await engine.probe(null, probes), await engine.probe('three', probes)];
    for (const i of probes.keys()) {
      expect(before[i]!.opened).toBe(false);
      expect(after[i]!.opened).toBe(true);
      expect(after[i]!.targetLogProbability!).toBeGreaterThan(before[i]!.targetLogProbability!);
      const { opened, promptTokens } = await engine.generate('three', ONE_TOKEN[i]!.prompt, {
        tokensMax: 1,
        temperature: 0,
      });
      const onPrompt = opened.filter(({ position }) => position < promptTokens);
      expect(onPrompt.map(({ nearestRow }) => nearestRow)).toContain(i);
      for (const gate of opened) {
        expect(parameters.layers).toContain(gate.layer);
        expect(gate.score).toBeGreaterThanOrEqual(gate.threshold);
        expect(gate.position).toBeGreaterThan(0);
      }
      const atSubject = onPrompt.filter(({ nearestRow }) => nearestRow === i);
      expect(atSubject.some(({ token }) => ONE_TOKEN[i]!.subject.endsWith(token.trim()))).toBe(
        true,
      );
    }
  },
);

it.each(TINY_MODELS)(
  'a tiny %s writes a second batch over the first as separate pairs',
  async (name) => {
    const { engine, pairs } = edited.get(name)!;
    const request = [
      {
        id: 'book',
        subject: 'the book',
        prompt: 'the author of the book was born in',
        target: 'the',
      },
    ];
    const more = await write(engine, 'three', request);
    expect(more.count).toBe(1);
    const join = (a: Float32Array[], b: Float32Array[]) =>
      a.map((rows, i) => Float32Array.of(...rows, ...b[i]!));
    const four = {
      ...pairs,
      count: 4,
      subjects: [...pairs.subjects, ...more.subjects],
      spellings: [...pairs.spellings, ...more.spellings],
      keys: join(pairs.keys, more.keys),
      changes: join(pairs.changes, more.changes),
    };
    expect((await engine.holdHook('four', four)).corrections).toBe(4);
    const { opened } = await engine.generate('four', request[0]!.prompt, {
      tokensMax: 1,
      temperature: 0,
    });
    expect(opened.map(({ nearestRow }) => nearestRow)).toContain(3);
  },
);

it.each(TINY_MODELS)(
  'a tiny %s gives the canary a ratio of exactly 1 with an empty hook',
  async (name) => {
    const { engine, pairs } = edited.get(name)!;
    const base = await engine.canary(null);
    expect(base).toMatchObject({ ratio: 1, openShare: 0, perplexity: base.basePerplexity });
    await engine.holdHook('empty', {
      ...pairs,
      count: 0,
      subjects: [],
      spellings: [],
      keys: pairs.keys.map(() => new Float32Array(0)),
      changes: pairs.changes.map(() => new Float32Array(0)),
    });
    expect(await engine.canary('empty')).toEqual(base);
    const three = await engine.canary('three');
    expect(three.ratio).toBe(three.perplexity / three.basePerplexity);
    expect(three.ratio === 1).toBe(three.openShare === 0);
  },
);

it.each(TINY_MODELS)('a tiny %s refuses impossible edits and makes the rest', async (name) => {
  const { engine } = edited.get(name)!;
  const long = 'the town '.repeat(40);
  const asked = [
    { id: 'absent', subject: 'rome', prompt: 'the capital is', target: 'a' },
    { id: 'blank', subject: 'tom', prompt: 'tom is', target: '  ' },
    { id: 'wordy', subject: 'tom', prompt: 'tom is', target: long },
    { id: 'long', subject: 'tom', prompt: `${long}tom is`, target: 'a' },
    ONE_TOKEN[1]!,
  ];
  const { targets, refused } = await engine.computeTargets(null, asked);
  expect(refused.map(({ id, code }) => [id, code])).toEqual([
    ['absent', 'subject-not-in-prompt'],
    ['blank', 'empty-target'],
    ['wordy', 'target-too-long'],
    ['long', 'prompt-too-long'],
  ]);
  expect(targets.ids).toEqual(['tom']);
  const derived = await engine.deriveUpdate(null, asked, targets);
  expect([derived.ids, derived.pairs.count]).toEqual([['tom'], 1]);
});

it.each(TINY_MODELS)(
  'a tiny %s refuses prompt and target that fill the context only together',
  async (name) => {
    const { engine } = edited.get(name)!;
    const request = {
      id: 'full',
      subject: 'tom',
      prompt: `tom ${'the '.repeat(27)}is`,
      target: 'the '.repeat(28),
    };
    const { refused, targets } = await engine.computeTargets(null, [request]);
    expect(refused.map(({ code, reason }) => [code, reason.includes('together')])).toEqual([
      ['prompt-too-long', true],
    ]);
    expect(targets.ids).toEqual([]);
    const derived = await engine.deriveUpdate(null, [request], targets);
    expect([derived.ids, derived.pairs.count]).toEqual([[], 0]);
  },
);

it.each(TINY_MODELS)(
  'a tiny %s returns a refusal for targets that are not finite',
  async (name) => {
    const { engine } = edited.get(name)!;
    const { residualWidth } = (await engine.describe()).model;
    const values = new Float32Array(residualWidth).fill(Number.NaN);
    const {
      ids,
      refused,
      pairs: none,
    } = await engine.deriveUpdate(null, ONE_TOKEN, { ids: ['tom'], values });
    expect([ids, none.count, refused.map(({ id, code }) => [id, code])]).toEqual([
      [],
      0,
      [['tom', 'singular-update']],
    ]);
  },
);

it.each(TINY_MODELS)(
  'a tiny %s probes a prompt longer than the context by its last tokens',
  async (name) => {
    const { engine } = edited.get(name)!;
    const prompt = `${'the town '.repeat(60)}the mother tongue of tom is`;
    const [answer] = await engine.probe('three', [{ prompt, target: 'greek', greedyTokensMax: 4 }]);
    expect(Number.isFinite(answer!.targetLogProbability)).toBe(true);
    await expect(
      engine.generate('three', prompt, { tokensMax: 1, temperature: 0 }),
    ).rejects.toThrow(/context is 64/);
  },
);

it.each(TINY_MODELS)('a tiny %s leaks no tensor in any call', async (name) => {
  const { engine } = edited.get(name)!;
  const before = [raw.liveCount(), tf.memory().numTensors];
  await write(engine, 'three', REQUESTS);
  await engine.probe('three', [
    { prompt: 'tom is', target: 'greek', alternative: 'in', greedyTokensMax: 3 },
  ]);
  await engine.canary('three');
  await engine.generate('three', 'the mother tongue of tom is', {
    tokensMax: 4,
    temperature: 1,
    seed: 3,
    topP: 0.9,
  });
  expect([raw.liveCount(), tf.memory().numTensors]).toEqual(before);
});

let engine: LocalEngine;
let pairs: PairSet;
beforeAll(async () => {
  engine = await LocalEngine.open(tinyEngineOptions());
  pairs = await write(engine, null, ONE_TOKEN);
});
afterAll(() => engine.close());

it('runs calls in sequence, in the order of arrival', async () => {
  const order: string[] = [];
  const noted = <T>(what: string, call: Promise<T>) => call.then(() => order.push(what));
  await Promise.all([
    noted(
      'targets',
      engine.computeTargets(null, ONE_TOKEN, () => void order.push('step')),
    ),
    noted('hold', engine.holdHook('queued', pairs)),
    noted('probe', engine.probe('queued', [{ prompt: 'tom is', greedyTokensMax: 1 }])),
  ]);
  expect(order.filter((what) => what !== 'step')).toEqual(['targets', 'hold', 'probe']);
  expect(order).toContain('step');
  expect(order.lastIndexOf('step')).toBeLessThan(order.indexOf('targets'));
});

it('continues after a failed call', async () => {
  const failing = engine.probe('never held', [{ prompt: 'tom is', greedyTokensMax: 1 }]);
  const next = engine.probe(null, [{ prompt: 'tom is', greedyTokensMax: 1 }]);
  await expect(failing).rejects.toThrow(HookNotHeld);
  expect(await next).toHaveLength(1);
});

it('forgets the least recently used hook, with its tensors', async () => {
  const names = Array.from({ length: HOOKS_HELD_MAX }, (_, i) => `kept ${i}`);
  for (const name of names) await engine.holdHook(name, pairs);
  const full = tf.memory().numTensors;
  await engine.probe('kept 0', [{ prompt: 'tom is', greedyTokensMax: 1 }]);
  await engine.holdHook('one more', pairs);
  expect(tf.memory().numTensors).toBe(full);
  expect(await Promise.all([...names, 'one more'].map((name) => engine.holds(name)))).toEqual([
    true,
    false,
    true,
    true,
    true,
  ]);
  await expect(engine.canary('kept 1')).rejects.toThrow(
    expect.objectContaining({ name: 'HookNotHeld', hookId: 'kept 1' }),
  );
});

it('builds a hook only once per name', async () => {
  const first = await engine.holdHook('once', pairs);
  const count = tf.memory().numTensors;
  expect(await engine.holdHook('once', pairs)).toEqual(first);
  expect(tf.memory().numTensors).toBe(count);
});

it('keeps nothing of a hook that cannot be built', async () => {
  const count = [raw.liveCount(), tf.memory().numTensors];
  const sick = { ...pairs, changes: pairs.changes.map((rows) => rows.map(() => Number.NaN)) };
  await expect(engine.holdHook('sick', sick)).rejects.toThrow(
    expect.objectContaining({ name: 'NotPositiveDefinite' }),
  );
  expect(await engine.holds('sick')).toBe(false);
  expect([raw.liveCount(), tf.memory().numTensors]).toEqual(count);
});

it('reports its progress step by step', async () => {
  const told: TargetProgress[] = [];
  await engine.computeTargets(null, ONE_TOKEN, (progress) => void told.push(progress));
  expect(told.length).toBeGreaterThan(0);
  expect(told.map(({ step }) => step)).toEqual(told.map((_, i) => i + 1));
  expect(told.every(({ stepsMax, unfinished }) => stepsMax === 12 && unfinished <= 3)).toBe(true);
});

it('streams its answer token by token, and stops at a stop text', async () => {
  const prompt = 'the mother tongue of tom is';
  const streamed: string[] = [];
  const whole = await engine.generate(
    null,
    prompt,
    { tokensMax: 8, temperature: 0 },
    ({ text }) => void streamed.push(text),
  );
  expect(streamed.join('')).toBe(whole.text);
  expect(whole).toMatchObject({ finish: 'length', promptTokens: 7 });
  expect(whole.tokens).toHaveLength(8);
  const stop = whole.text.slice(3, 6);
  const cut = await engine.generate(null, prompt, {
    tokensMax: 8,
    temperature: 0,
    stop: ['', stop],
  });
  expect([cut.finish, cut.text]).toEqual(['stop', whole.text.slice(0, whole.text.indexOf(stop))]);
  const sampled = (seed: number) =>
    engine.generate(null, prompt, { tokensMax: 8, temperature: 1.5, seed });
  expect((await sampled(5)).tokens).toEqual((await sampled(5)).tokens);
  expect((await sampled(6)).tokens).not.toEqual((await sampled(5)).tokens);
  expect((await engine.generate(null, prompt, { tokensMax: 0, temperature: 0 })).text).toBe('');
});

it('names corrections by row if each has one key', async () => {
  const averaged = await LocalEngine.open(
    tinyEngineOptions({ gate: { kind: 'sequence' } }, 'llama'),
  );
  const single = await write(averaged, null, ONE_TOKEN);
  expect(single.keyWidth).toBe((await averaged.describe()).model.mlpWidth);
  await averaged.close();
  await engine.holdHook('single', single);
  for (const [i, { prompt }] of ONE_TOKEN.entries()) {
    const { opened, promptTokens } = await engine.generate('single', prompt, {
      tokensMax: 1,
      temperature: 0,
    });
    const rows = opened
      .filter(({ position }) => position < promptTokens)
      .map(({ nearestRow }) => nearestRow);
    expect(rows.every((row) => row < 3)).toBe(true);
    expect(rows).toContain(i);
  }
});

it('refuses blocks that the model lacks', async () => {
  for (const layers of [[], [4], [2, 1], [1, 1], [-1]])
    await expect(LocalEngine.open(tinyEngineOptions({ layers }, 'llama'))).rejects.toThrow(
      /edited blocks/,
    );
});

it('frees all its tensors when it closes', async () => {
  const before = [raw.liveCount(), tf.memory().numTensors];
  const other = await LocalEngine.open(tinyEngineOptions({}, 'gpt2'));
  await other.holdHook('some', await write(other, null, ONE_TOKEN));
  expect(tf.memory().numTensors).toBeGreaterThan(before[1]!);
  await other.close();
  expect([raw.liveCount(), tf.memory().numTensors]).toEqual(before);
});
