/**
 * Checks that the model's answer depends on the prompt alone: not on its neighbours in a batch, on
 * padding, or on how a cache cuts it. The reference's gate, a z-score over a padded sequence,
 * breaks each of these.
 */
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decode } from '../../model/network/decode.ts';
import { Hook } from '../../model/hook/hook.ts';
import type { PairSet } from '../../model/engine-types.ts';
import { widen64 } from '../../model/tensor/float64.ts';
import { keysOf, type KeyStatistics } from '../../model/statistics/key-statistics.ts';
import { parametersFor } from '../../model/engine/parameters.ts';
import { buildPriors, disposePriors, type Prior } from '../../model/statistics/prior.ts';
import { isRefusal, readEdit, type EditSequence } from '../../model/network/sequences.ts';
import { findTargets } from '../../model/editing/targets.ts';
import { derivePairs } from '../../model/editing/update.ts';
import type { GateParameters, HyperParameters } from '../../schemas/hyper-parameters.ts';
import { largestDifference, readGoldenJson } from '../golden/read-golden.ts';
import { readAs, READING_FORMS, type Reading, type ReadingForm } from './reading-forms.ts';
import { loadTiny, TINY_MODELS, tinyText, type TinyModel } from '../harness/tiny-model.ts';

interface Given {
  front: number[];
  contexts: number[][];
  batches: { subject: string; prompt: string; target: string }[][];
}

const { front, contexts, batches } = readGoldenJson<Given>('comeba', 'input.json');
const requests = batches
  .flat()
  .map(({ subject, prompt, target }, i) => ({ id: String(i), subject, prompt, target }));
const LIMITS = { targetTokensMax: 16, promptTokensMax: 32, togetherTokensMax: 48 };
/** Opens on every name whose key is at all like the corrected one. */
const gateOf = (map: GateParameters['map']): GateParameters => ({
  kind: 'subject',
  map,
  floor: 0,
});
const GATES: Record<string, GateParameters> = {
  'a subject gate with a map for every subject': gateOf('subject'),
  'a subject gate with one map for all': gateOf('joint'),
};
/** Logits are 1 to 10 in size; another layout sums in another order. */
const LOGIT_TOLERANCE = 2e-3;
const DECODED_TOKENS = 6;
const ALONE = READING_FORMS['unpadded, in one pass']!;
const RAGGED = READING_FORMS['in a ragged batch']!;

describe.each(
  TINY_MODELS.flatMap((name) =>
    Object.entries(GATES).map(([behind, gate]) => [name, behind, gate] as const),
  ),
)('an edited tiny %s behind %s', (name, _, gate) => {
  let edited: Edited;
  let hook: Hook;
  let prompts: number[][];
  let alone: Reading[];

  beforeAll(async () => {
    edited = await editTiny(name);
    hook = Hook.build(edited.pairs, edited.priors, gate);
    prompts = [...edited.related, ...edited.unrelated];
    alone = readAs(edited.tiny.model, prompts, ALONE, hook);
  });
  afterAll(async () => {
    hook.dispose();
    disposePriors(edited.priors);
    await edited.tiny.close();
  });

  it('opens on corrections, but not on everything', () => {
    const opens = alone.map(({ opened }) => opened.size > 0);
    expect(opens.slice(0, edited.related.length).filter(Boolean).length).toBeGreaterThanOrEqual(
      edited.related.length - 2,
    );
    expect(opens.slice(edited.related.length)).toContain(false);
    const tokens =
      prompts.reduce((sum, prompt) => sum + prompt.length - 1, 0) * edited.parameters.layers.length;
    expect(alone.reduce((sum, { opened }) => sum + opened.size, 0)).toBeLessThan(tokens / 2);
  });

  it.each(Object.entries(READING_FORMS))(
    'reads the same logits and leaves unopened sequences unchanged, %s',
    (_, form) => {
      const readings = readAs(edited.tiny.model, prompts, form, hook);
      readings.forEach((reading, i) => {
        expectAlike(reading, alone[i]!, `prompt ${i}`);
        expectBaseUntilOpened(reading, edited.base.get(form)![i]!, `prompt ${i}`);
      });
    },
  );

  it('reads the same logits beside a far longer neighbour', () => {
    const long = [...front, ...edited.tiny.checkpoint.tokenizer.encode(tinyText(40, 77))].slice(
      0,
      60,
    );
    prompts.forEach((prompt, i) => {
      const [, reading] = readAs(edited.tiny.model, [long, prompt], RAGGED, hook);
      expectAlike(reading!, alone[i]!, `prompt ${i}`);
    });
  });

  it('decodes the same tokens alone and among others', async () => {
    const options = { tokensMax: DECODED_TOKENS, temperature: 0, hook };
    const together = await decode(edited.tiny.model, prompts, options);
    for (const [i, prompt] of prompts.entries()) {
      const [by] = await decode(edited.tiny.model, [prompt], options);
      expect(together[i], `prompt ${i}`).toEqual(by);
    }
  });
});

/** A tiny model, its edits, and prompts read from the base model. */
interface Edited {
  tiny: TinyModel;
  parameters: HyperParameters;
  priors: Map<number, Prior>;
  pairs: PairSet;
  related: number[][];
  unrelated: number[][];
  /** The base model's readings, by form. */
  base: Map<ReadingForm, Reading[]>;
}

async function editTiny(name: (typeof TINY_MODELS)[number]): Promise<Edited> {
  const tiny = await loadTiny(name);
  const { model, checkpoint } = tiny;
  const { tokenizer } = checkpoint;
  const encode = (text: string) => [...front, ...tokenizer.encode(text)];
  const edits = requests
    .map((request) => readEdit(tokenizer, request, LIMITS))
    .filter((read) => !isRefusal(read)) as EditSequence[];
  expect(edits).toHaveLength(requests.length);
  const parameters = parametersFor(model.config, {
    layers: [1, 2],
    stepsMax: 6,
    contexts: contexts.length,
  });
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
  const priors = buildPriors(model, { moments } as unknown as KeyStatistics, parameters);
  const search = { model, tokenizer, hook: null, parameters, front, contexts };
  const { values } = await findTargets(edits, search);
  const context = {
    model,
    priors,
    hook: null,
    pairs: null,
    front,
    contexts,
    gate: gateOf('joint'),
  } as const;
  const { pairs } = await derivePairs(edits, values, context);
  const related = [
    ...edits.slice(0, 6).map(({ bare }) => [...front, ...bare.tokens]),
    ...edits.slice(6, 8).map(({ behind }) => [...encode(tinyText(13, 803)), ...behind.tokens]),
  ];
  const unrelated = ['french and greek', 'speaks', tinyText(9, 900)].map(encode);
  const base: Edited['base'] = new Map();
  for (const form of Object.values(READING_FORMS))
    base.set(form, readAs(model, [...related, ...unrelated], form, null));
  return { tiny, parameters, priors, pairs, related, unrelated, base };
}

function expectAlike(found: Reading, wanted: Reading, where: string): void {
  expect([...found.opened].sort(), where).toEqual([...wanted.opened].sort());
  expect(found.logits.length, where).toBe(wanted.logits.length);
  found.logits.forEach((row, t) =>
    expect(largestDifference(row, wanted.logits[t]!), `${where}, position ${t}`).toBeLessThan(
      LOGIT_TOLERANCE,
    ),
  );
}

/**
 * Bit for bit the base model's logits up to the first opening, whatever opens in neighbours, and
 * different ones from there on.
 */
function expectBaseUntilOpened({ logits, opened }: Reading, base: Reading, where: string): void {
  const first = Math.min(logits.length, ...[...opened].map((at) => Number(at.split(':')[1])));
  expect(first, where).toBeGreaterThan(0);
  for (let t = 0; t < first; t++)
    expect(sameBits(logits[t]!, base.logits[t]!), `${where}, position ${t}`).toBe(true);
  if (first < logits.length)
    expect(sameBits(logits[first]!, base.logits[first]!), where).toBe(false);
}

function sameBits(a: Float32Array, b: Float32Array): boolean {
  return Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(
    Buffer.from(b.buffer, b.byteOffset, b.byteLength),
  );
}
