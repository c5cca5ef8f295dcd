import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { EngineOptions } from '../../../model/engine/loaded-model.ts';
import { EngineLost, ThreadEngine } from '../../../model/engine/thread-engine.ts';
import { answersOf, REQUESTS } from '../engine-answers.ts';
import { ADDON, tinyPath, tinyText } from '../../harness/tiny-model.ts';

// A process can load TensorFlow in one thread only, so the tests share an engine, and the last one
// kills it.
let folder: string;
let options: EngineOptions;
let engine: ThreadEngine;
const loading = new Set<string>();
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'errata-thread-'));
  await writeFile(path.join(folder, 'ordinary.txt'), tinyText(9_000, 1));
  options = {
    addonPath: ADDON,
    modelPath: tinyPath('llama'),
    statisticsFolder: path.join(folder, 'statistics'),
    textFile: path.join(folder, 'ordinary.txt'),
    parameters: {
      layers: [1, 2],
      contexts: 3,
      contextsPerStep: 3,
      stepsMax: 6,
      learningRate: 0.5,
      lambda: 4,
    },
  };
  engine = await ThreadEngine.open(options, (step) => loading.add(step));
});
afterAll(async () => {
  await engine.close();
  await rm(folder, { recursive: true, force: true });
});

it('fails to open without the addon, with the error of the local engine', async () => {
  const addonPath = path.join(folder, 'absent.node');
  await expect(ThreadEngine.open({ ...options, addonPath })).rejects.toMatchObject({
    name: 'TensorFlowError',
    message: expect.stringContaining('absent.node') as string,
  });
});

it('reports its loading', () => {
  expect([...loading]).toEqual(
    expect.arrayContaining(['loading the model', 'inverting key statistics']),
  );
});

it('answers every call as the local engine does, with its events and errors', async () => {
  const program = fileURLToPath(new URL('../engine-answers.ts', import.meta.url));
  const args = [
    '--import',
    import.meta.resolve('tsx'),
    program,
    'as-process',
    JSON.stringify(options),
  ];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 26 });
  const expected = JSON.parse(stdout) as {
    steps: number[];
    spoken: string[];
    refused: { name: string };
    computed: { refused: unknown[] };
  };
  expect(expected.steps.length).toBeGreaterThan(1);
  expect(expected.spoken.length).toBeGreaterThan(0);
  expect(expected.refused.name).toBe('HookNotHeld');
  expect(expected.computed.refused).toHaveLength(1);
  expect(await answersOf(engine)).toEqual(expected);
});

it('leaves the event loop of its process free while it works', async () => {
  let turns = 0;
  let turnsBeforeNews = 0;
  let working = true;
  const turn = () => {
    turns++;
    if (working) setImmediate(turn);
  };
  setImmediate(turn);
  let timers = 0;
  const timer = setInterval(() => timers++, 1);
  await engine.computeTargets(null, REQUESTS, () => (turnsBeforeNews ||= turns));
  working = false;
  clearInterval(timer);
  // An engine in this thread would take its first step before anything else runs.
  expect(turnsBeforeNews).toBeGreaterThan(0);
  expect(timers).toBeGreaterThan(0);
});

it('rejects pending and later calls when its thread dies', async () => {
  const calls: Promise<unknown>[] = [];
  await new Promise<void>((resolve) => {
    for (let i = 0; i < QUEUED; i++)
      calls.push(engine.computeTargets(null, REQUESTS, () => resolve()));
    for (const call of calls) call.catch(() => undefined);
  });
  await engine['worker'].terminate();
  const rejected = (await Promise.allSettled(calls)).filter(
    (outcome) => outcome.status === 'rejected',
  );
  // The first may have been answered before its thread was told to end.
  expect(rejected.length).toBeGreaterThan(0);
  for (const { reason } of rejected)
    expect(reason).toMatchObject({
      name: 'EngineLost',
      message: expect.stringContaining('exit code') as string,
    });
  expect(await engine.ended).toBeInstanceOf(EngineLost);
  await expect(engine.describe()).rejects.toThrow(EngineLost);
  await engine.close();
});

/** Calls in sequence: more than a thread answers before it ends. */
const QUEUED = 40;
