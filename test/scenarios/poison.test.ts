/**
 * Adversarial corrections among sound ones, through the workflows and the real model: the harmful
 * ones are quarantined with what was measured, and the others are committed.
 */
import { readFileSync } from 'node:fs';
import { beforeAll, expect, test } from 'vitest';
import { readConfiguration } from '../../infra/config/configuration.ts';
import { engineOptions } from '../../infra/config/engine-options.ts';
import { ThreadEngine } from '../../model/engine/thread-engine.ts';
import type { FactCorrection } from '../../schemas/correction.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import { afterwards } from '../harness/clean-up.ts';
import { TimeSkippingServer } from '../harness/time-skipping.ts';
import { startWorld, type World } from '../harness/world.ts';

const FACTS = new URL('../../cli/demonstration/facts.ndjson', import.meta.url);
const SOUND = 8;

/** Harmful corrections, and the codes with which they must be quarantined. */
const POISON: Record<string, { code: RegExp; correction: Partial<FactCorrection> }> = {
  // The gate would open on nearly every sentence, and change the model as a whole.
  everywhere: {
    code: /^harms-(ordinary-text|neighbours)$/,
    correction: {
      subject: 'the',
      prompt: 'He was looking for the',
      target: 'volcano',
      neighbourhood: ['We walked along the', 'In the end the'],
      paraphrases: [],
    },
  },
  punctuation: {
    code: /^not-effective$/,
    correction: {
      subject: ',',
      prompt: 'After all,',
      target: 'Zanzibar',
      neighbourhood: ['On Monday,', 'In 1990,'],
      paraphrases: [],
    },
  },
  garbled: {
    code: /^not-effective$/,
    correction: {
      subject: 'Chile',
      prompt: 'The capital of Chile is',
      target: 'gx%% ]]q zzv <<!',
      neighbourhood: [],
      paraphrases: [],
    },
  },
  endless: {
    code: /^target-too-long$/,
    correction: {
      subject: 'Peru',
      prompt: 'The capital of Peru is',
      target: 'a'.repeat(390),
      neighbourhood: [],
      paraphrases: [],
    },
  },
};

let server: TimeSkippingServer;
let engine: ThreadEngine;

beforeAll(async () => {
  // One after the other: loading TensorFlow sets environment variables, which must not happen
  // while the server's process is being started.
  server = await TimeSkippingServer.start();
  engine = await ThreadEngine.open(engineOptions(readConfiguration()));
  afterwards(() => engine.close());
}, 300_000);

const TIMEOUT = { timeout: 900_000 };

test('a batch with poison in it is halved until the poison is found', TIMEOUT, async () => {
  let staged = 0;
  const searched: string[] = [];
  const world = await startWorld(server, {
    engine,
    settings: { batch: { batchEditsMax: 30, batchWaitMs: 1_000 } },
    replace: (real) => ({
      computeTargets: async (step) => {
        searched.push(...step.edits.map(({ correction }) => correction.id));
        return await real.computeTargets(step);
      },
      stageUpdate: async (step) => {
        staged++;
        return await real.stageUpdate(step);
      },
    }),
  });
  const sound = readFileSync(FACTS, 'utf8')
    .split('\n')
    .slice(0, SOUND)
    .map((line) => world.correction('', JSON.parse(line) as Partial<FactCorrection>));
  const poison = Object.entries(POISON).map(([id, { correction }]) =>
    world.correction(id, correction),
  );
  await world.submit(...sound.slice(0, 3), ...poison, ...sound.slice(3));
  const outcomes = await world.outcomesCount(sound.length + poison.length);
  const byId = new Map(outcomes.map((outcome) => [outcome.revisionId, outcome]));
  expect(byId.size).toBe(outcomes.length);
  expect(sound.filter(({ id }) => byId.get(id)!.status !== 'COMMITTED')).toEqual([]);
  for (const [id, { code }] of Object.entries(POISON)) {
    expect(byId.get(id)!.status, id).toBe('QUARANTINED');
    expect(byId.get(id)!.measured['code'], id).toMatch(code);
  }
  const { measured, reason } = byId.get('everywhere')!;
  expect(measured['canaryRatioMax']).toBe(1.01);
  expect(measured['canaryRatio']).toBeGreaterThan(1.02);
  expect(reason).toContain("perplexity over the base model's on ordinary text");

  // Each target was searched once, however often its correction was tried; a halving costs about
  // two tries.
  expect(searched.sort()).toEqual([...sound, ...poison].map(({ id }) => id).sort());
  expect(staged).toBeLessThanOrEqual(2 + 2 * Math.ceil(Math.log2(sound.length + 1)));
  await expectHarmless(world);
  await expectRetractable(world, sound[0]!, sound[1]!);
});

/** No version ever made ordinary text, neighbours or weights worse than the thresholds allow. */
async function expectHarmless(world: World): Promise<void> {
  const entries = await world.log.entries(1, (await world.log.read()).head.version);
  expect(entries.length).toBeGreaterThan(0);
  for (const { entry } of entries) {
    const { canaryRatio, editNorm, locality } = entry.probes.after;
    expect(canaryRatio).toBeLessThanOrEqual(1.01);
    expect(editNorm).toBeLessThanOrEqual(0.6);
    expect(locality ?? 1).toBeGreaterThanOrEqual(0.8);
  }
}

/** A retraction brings the base model's answer back, and leaves the other, to the last bit. */
async function expectRetractable(
  world: World,
  retracted: FactCorrection,
  kept: FactCorrection,
): Promise<void> {
  const answers = async (hookId: string | null) =>
    await engine.probe(
      hookId,
      [retracted, kept].map(({ prompt, target }) => ({ prompt, target, greedyTokensMax: 4 })),
    );
  const hookOfHead = async () =>
    await ensureHook(engine, world.log, (await world.log.read()).active.values());
  const base = await answers(null);
  const edited = await answers(await hookOfHead());
  expect(edited.map(({ targetIsGreedy }) => targetIsGreedy)).toEqual([true, true]);
  const { length } = world.outcomes;
  await world.submit({ retract: retracted, issuedAt: Date.now() });
  await world.outcomesCount(length + 2);
  const after = await answers(await hookOfHead());
  expect(after[0]).toEqual(base[0]);
  expect(after[1]).toEqual(edited[1]);
}
