/**
 * What the model says to a prompt is a function of the prompt: not of its neighbours in a batch, nor of padding, nor of
 * how a cache cuts it up. The reference's gate, a z-score over a padded sequence, breaks each of these.
 */
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decode } from '../../model/decode.ts';
import { Hook } from '../../model/hook.ts';
import type { PairSet } from '../../model/engine.ts';
import { widen64 } from '../../model/float64.ts';
import { keysOf, type KeyStatistics } from '../../model/key-statistics.ts';
import { parametersFor } from '../../model/parameters.ts';
import { buildPriors, disposePriors, type Prior } from '../../model/prior.ts';
import type { EditSequence } from '../../model/sequences.ts';
import { findTargets } from '../../model/targets.ts';
import { derivePairs } from '../../model/update.ts';
import type { GateKind, HyperParameters } from '../../schemas/editing.ts';
import { largestDifference, readGoldenJson } from '../golden/read-golden.ts';
import { readAs, READING_FORMS, type Reading, type ReadingForm } from './reading-forms.ts';
import { loadTiny, TINY_MODELS, tinyText, type TinyModel } from './tiny-model.ts';

interface Given {
  front: number[];
  contexts: number[][];
  batches: { subject: string; bare: EditSequence['bare']; behind: EditSequence['behind']; targetTokens: number[] }[][];
}

const { front, contexts, batches } = readGoldenJson<Given>('comeba', 'input.json');
const edits = batches.flat().map(({ subject, bare, behind, targetTokens }, i): EditSequence => ({
  id: String(i),
  subject,
  bare,
  behind,
  target: targetTokens,
}));
const KINDS: GateKind[] = ['subject', 'scope', 'leverage', 'key', 'norm'];
/** Logits of the size of 1 to 10; another layout sums in another order. */
const LOGIT_TOLERANCE = 2e-3;
const DECODED_TOKENS = 6;
const ALONE = READING_FORMS['unpadded, in one pass']!;
const RAGGED = READING_FORMS['in a ragged batch']!;

describe.each(TINY_MODELS)('an edited tiny %s', (name) => {
  let tiny: TinyModel;
  let parameters: HyperParameters;
  let priors: Map<number, Prior>;
  let pairs: PairSet;
  let related: number[][];
  let unrelated: number[][];
  /** The base model's, read in the same forms. */
  const base = new Map<ReadingForm, Reading[]>();

  beforeAll(async () => {
    tiny = await loadTiny(name);
    const { model, checkpoint } = tiny;
    const { tokenizer } = checkpoint;
    const encode = (text: string) => [...front, ...tokenizer.encode(text)];
    parameters = parametersFor(model.config, { layers: [1, 2], stepsMax: 6, contexts: contexts.length });
    const text = Array.from({ length: 40 }, (_, i) => encode(tinyText(20, i)));
    const reference = keysOf(model, text, parameters.layers);
    const moments = new Map(
      [...reference].map(([layer, keys]) => {
        const moment = tf.tidy(() => tf.div<tf.Tensor2D>(tf.matMul(keys, keys, true), keys.shape[0]));
        const wide = widen64(moment);
        moment.dispose();
        return [layer, wide];
      }),
    );
    const canaryKeys = keysOf(model, [text[0]!], parameters.layers);
    const statistics = { moments, referenceKeys: reference, canaryKeys };
    priors = buildPriors(model, statistics as unknown as KeyStatistics, parameters);
    const search = { model, tokenizer, hook: null, parameters, front, contexts };
    const { values } = await findTargets(edits, search);
    const context = { model, priors, hook: null, pairs: null, front, contexts, keyViews: 'separate', gate: 'scope' } as const;
    pairs = (await derivePairs(edits, values, context)).pairs;
    related = [
      ...edits.slice(0, 6).map(({ bare }) => [...front, ...bare.tokens]),
      ...edits.slice(6, 8).map(({ behind }) => [...encode(tinyText(13, 803)), ...behind.tokens]),
    ];
    // None of it from the reference text: one of its tokens is the threshold itself, where a rounding decides.
    unrelated = ['french and greek', 'speaks', tinyText(9, 900)].map(encode);
    for (const form of Object.values(READING_FORMS)) base.set(form, readAs(model, [...related, ...unrelated], form, null));
  });
  afterAll(async () => {
    disposePriors(priors);
    await tiny.close();
  });

  describe.each(KINDS)('behind a %s gate', (kind) => {
    let hook: Hook;
    let prompts: number[][];
    let alone: Reading[];

    beforeAll(() => {
      // A threshold that the gate's own reference text sets: low enough for edits to open it, high enough to shut it elsewhere.
      hook = Hook.build(pairs, priors, { kind, floor: 0, referenceQuantile: 0.97, nearKey: 0.9 });
      prompts = [...related, ...unrelated];
      alone = readAs(tiny.model, prompts, ALONE, hook);
    });
    afterAll(() => hook.dispose());

    it('opens on corrections, and not on everything', () => {
      const opens = alone.map(({ opened }) => opened.size > 0);
      expect(opens.slice(0, related.length).filter(Boolean).length).toBeGreaterThanOrEqual(related.length - 2);
      expect(opens.slice(related.length)).toContain(false);
      const tokens = prompts.reduce((sum, prompt) => sum + prompt.length - 1, 0) * parameters.layers.length;
      expect(alone.reduce((sum, { opened }) => sum + opened.size, 0)).toBeLessThan(tokens / 2);
    });

    it.each(Object.entries(READING_FORMS))('says the same and leaves what it does not open as it was, %s', (_, form) => {
      const readings = readAs(tiny.model, prompts, form, hook);
      readings.forEach((reading, i) => {
        expectAlike(reading, alone[i]!, `prompt ${i}`);
        expectBaseUntilOpened(reading, base.get(form)![i]!, `prompt ${i}`);
      });
    });

    it('says the same beside a far longer neighbour', () => {
      const long = [...front, ...tiny.checkpoint.tokenizer.encode(tinyText(40, 77))].slice(0, 60);
      prompts.forEach((prompt, i) => {
        const [, reading] = readAs(tiny.model, [long, prompt], RAGGED, hook);
        expectAlike(reading!, alone[i]!, `prompt ${i}`);
      });
    });

    it('decodes the same tokens alone and among others', async () => {
      const options = { tokensMax: DECODED_TOKENS, temperature: 0, hook };
      const together = await decode(tiny.model, prompts, options);
      for (const [i, prompt] of prompts.entries()) {
        const [by] = await decode(tiny.model, [prompt], options);
        expect(together[i], `prompt ${i}`).toEqual(by);
      }
    });
  });
});

function expectAlike(found: Reading, wanted: Reading, where: string): void {
  expect([...found.opened].sort(), where).toEqual([...wanted.opened].sort());
  expect(found.logits.length, where).toBe(wanted.logits.length);
  found.logits.forEach((row, t) => expect(largestDifference(row, wanted.logits[t]!), `${where}, position ${t}`).toBeLessThan(LOGIT_TOLERANCE));
}

/** Bit for bit the base model's up to the first opening, whatever opened in its neighbours; and another model's from there on. */
function expectBaseUntilOpened({ logits, opened }: Reading, base: Reading, where: string): void {
  const first = Math.min(logits.length, ...[...opened].map((at) => Number(at.split(':')[1])));
  expect(first, where).toBeGreaterThan(0);
  for (let t = 0; t < first; t++) expect(sameBits(logits[t]!, base.logits[t]!), `${where}, position ${t}`).toBe(true);
  if (first < logits.length) expect(sameBits(logits[first]!, base.logits[first]!), where).toBe(false);
}

function sameBits(a: Float32Array, b: Float32Array): boolean {
  return Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));
}
