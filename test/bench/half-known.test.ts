/**
 * Measures edits of thirty facts that SmolLM2 half knows, in three batches of ten, in every reading
 * form. The records are not part of this project: without them the tests are skipped.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { editStream, type BenchResult } from '../../bench/edit-stream.ts';
import { readRecords, type FactRecord } from '../../operations/tune/fact-records.ts';
import { readConfiguration } from '../../infra/config/configuration.ts';
import { engineOptions } from '../../infra/config/engine-options.ts';
import { PROJECT_ROOT } from '../../infra/config/home.ts';
import type { Hook } from '../../model/hook/hook.ts';
import { LocalEngine } from '../../model/engine/local-engine.ts';
import type { Tokenizer } from '../../model/tokenizer/tokenizer.ts';
import {
  frontTokens,
  isRefusal,
  readEdit,
  type EditSequence,
} from '../../model/network/sequences.ts';
import { argMaxOf, readAs, READING_FORMS, type ReadingForm } from '../model/reading-forms.ts';

const RECORDS = path.join(PROJECT_ROOT, '..', 'shared', 'data', 'half-known-30.json');
const FACTS = 30;
const EDITING_MS = 1_200_000;
const LIMITS = { targetTokensMax: 64, promptTokensMax: 512, togetherTokensMax: 1024 };
const BEFORE =
  'The kettle had just begun to sing when Martha put her newspaper aside and turned to us.';

/** Only the forms that read all facts together: one by one, token by token, they take minutes. */
const FORMS: [string, ReadingForm][] = Object.entries(READING_FORMS).filter(
  ([, { together, chunkTokens }]) => together || chunkTokens === Infinity,
);

describe.skipIf(!existsSync(RECORDS))('SmolLM2 edited on facts it half knows', () => {
  let engine: LocalEngine;
  let result: BenchResult;
  let hook: Hook;
  let edits: EditSequence[];
  let front: number[];

  beforeAll(async () => {
    engine = await LocalEngine.open(engineOptions(readConfiguration()));
    const records = await readRecords(RECORDS, 0, FACTS);
    result = await editStream(engine, records, FACTS / 3, () => {});
    // The forms below are only available inside the engine.
    const whole = [...engine['hooks'].values()].find(({ pairs }) => pairs.count === FACTS);
    if (!whole?.hook) throw new Error('the engine no longer holds the hook of all facts');
    hook = whole.hook;
    const { tokenizer } = engine['loaded'].checkpoint;
    front = frontTokens(tokenizer);
    edits = records.map((record) => readRecord(tokenizer, record));
  }, EDITING_MS);
  afterAll(() => engine?.close());

  it('learns the facts and paraphrases, and leaves neighbours and ordinary text alone', () => {
    expect(result.batches).toBe(3);
    expect(result.refused).toBe(0);
    expect(result.before.efficacy).toBeLessThan(0.1);
    expect(result.efficacy).toBeGreaterThanOrEqual(0.95);
    expect(result.efficacyGreedy).toBeGreaterThanOrEqual(0.95);
    expect(result.paraphrase).toBeGreaterThanOrEqual(0.85);
    expect(result.neighboursUnchanged).toBeGreaterThanOrEqual(0.97);
    expect(result.perplexityRatio).toBeLessThanOrEqual(1.005);
  });

  it.each(FORMS)('gives all thirty targets for the bare prompts, %s', (_, form) => {
    expect(missed('bare', [], form)).toEqual([]);
  });

  // The reference gives 29 of them behind a longer prefix in one pass, 15 in chunks and none token
  // by token.
  it('gives all thirty targets after unrelated text, in every reading form', () => {
    const before = engine['loaded'].checkpoint.tokenizer.encode(BEFORE);
    expect(FORMS.map(([, form]) => missed('behind', before, form))).toEqual(FORMS.map(() => []));
  });

  /** Facts with a target token that the model does not predict. */
  function missed(place: 'bare' | 'behind', before: number[], form: ReadingForm): string[] {
    const prompts = edits.map((edit) => [...front, ...before, ...edit[place].tokens]);
    const read = prompts.map((prompt, i) => [...prompt, ...edits[i]!.target.slice(0, -1)]);
    return readAs(engine['loaded'].model, read, form, hook).flatMap(({ logits, opened }, i) => {
      const { target, id } = edits[i]!;
      const said = logits.slice(-target.length).map(argMaxOf);
      if (said.every((token, at) => token === target[at])) return [];
      return [
        `${id}: says ${said.join(' ')} for ${target.join(' ')}, ` +
          `opened ${[...opened].sort().join(' ') || 'nowhere'}`,
      ];
    });
  }
});

function readRecord(tokenizer: Tokenizer, { revision, prompt, target }: FactRecord): EditSequence {
  if (revision.kind !== 'correction') throw new Error('a record is a correction');
  const { id, subject } = revision.correction;
  const read = readEdit(tokenizer, { id, subject, prompt, target }, LIMITS);
  if (isRefusal(read)) throw new Error(read.reason);
  return read;
}
