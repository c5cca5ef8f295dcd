/**
 * A stream with adversarial corrections among sound ones, through the workflows and the real model:
 * what is harmful is found and kept out with what was measured, the rest is committed, and nothing
 * harmful is ever visible.
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readConfiguration } from '../../infra/config/configuration.ts';
import { engineOptions } from '../../infra/config/engine-options.ts';
import { ThreadEngine } from '../../model/engine/thread-engine.ts';
import type { FactCorrection } from '../../schemas/correction.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import { TimeSkippingServer, World } from '../harness/world.ts';

const FACTS = new URL('../../cli/demonstration/facts.ndjson', import.meta.url);
const SOUND = 8;

/** What each asks for, and the code that it must be quarantined with. */
const POISON: Record<string, { code: RegExp; correction: Partial<FactCorrection> }> = {
  // The gate would open on nearly every sentence: the model as a whole would be another.
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
  [server, engine] = await Promise.all([
    TimeSkippingServer.start(),
    ThreadEngine.open(engineOptions(readConfiguration())),
  ]);
}, 300_000);
afterAll(async () => {
  await server?.stop();
  await engine?.close();
});

it(
  'a batch with poison in it is halved until the poison is found, and the rest is committed',
  { timeout: 900_000 },
  async () => {
    let staged = 0;
    const searched: string[] = [];
    const world = new World(server, {
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
    await world.run(async () => {
      const sound = readFileSync(FACTS, 'utf8')
        .split('\n')
        .slice(0, SOUND)
        .map((line) => world.correction('', JSON.parse(line) as Partial<FactCorrection>));
      const poison = Object.entries(POISON).map(([id, { correction }]) =>
        world.correction(id, correction),
      );
      await world.submit(...sound.slice(0, 3), ...poison, ...sound.slice(3));
      const outcomes = await world.outcomesCount(sound.length + poison.length);

      const fateOf = new Map(outcomes.map((outcome) => [outcome.revisionId, outcome]));
      expect(fateOf.size).toBe(outcomes.length);
      expect(sound.filter(({ id }) => fateOf.get(id)!.status !== 'COMMITTED')).toEqual([]);
      for (const [id, { code }] of Object.entries(POISON)) {
        expect(fateOf.get(id)!.status, id).toBe('QUARANTINED');
        expect(fateOf.get(id)!.measured['code'], id).toMatch(code);
      }
      const { measured, reason } = fateOf.get('everywhere')!;
      expect(measured['canaryRatioMax']).toBe(1.01);
      expect(measured['canaryRatio']).toBeGreaterThan(1.02);
      expect(reason).toContain("perplexity over the base model's on ordinary text");

      // Each target was searched once, however often its correction was tried again; about two
      // tries for each halving.
      expect(searched.sort()).toEqual([...sound, ...poison].map(({ id }) => id).sort());
      expect(staged).toBeLessThanOrEqual(2 + 2 * Math.ceil(Math.log2(sound.length + 1)));
      const { head } = await world.log.read();
      for (const { entry } of await world.log.entries(1, head.version)) {
        expect(entry.probes.after.canaryRatio).toBeLessThanOrEqual(1.01);
        expect(entry.probes.after.editNorm).toBeLessThanOrEqual(0.6);
        expect(entry.probes.after.locality ?? 1).toBeGreaterThanOrEqual(0.8);
      }

      // A null value takes a fact out again: the base model's answer to the last bit, and the
      // others' as they were.
      const [retracted, kept] = sound as [FactCorrection, FactCorrection];
      const answersOf = async (hookId: string | null) =>
        await engine.probe(
          hookId,
          [retracted, kept].map(({ prompt, target }) => ({ prompt, target, greedyTokensMax: 4 })),
        );
      const base = await answersOf(null);
      const edited = await answersOf(
        await ensureHook(engine, world.log, (await world.log.read()).active.values()),
      );
      expect(edited.map(({ targetIsGreedy }) => targetIsGreedy)).toEqual([true, true]);
      await world.submit({ retract: retracted, issuedAt: Date.now() });
      await world.outcomesCount(outcomes.length + 2);
      const after = await answersOf(
        await ensureHook(engine, world.log, (await world.log.read()).active.values()),
      );
      expect(after[0]).toEqual(base[0]);
      expect(after[1]).toEqual(edited[1]);
    });
  },
);
