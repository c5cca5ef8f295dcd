import path from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import {
  remembering,
  renaming,
  replacing,
  type GatedEngine,
} from '../../../bench/wrapped-engine.ts';
import { compareGates, type GatesQuestion, type NamedGate } from '../../../bench/study/gates.ts';
import { KeptPoints } from '../../../bench/kept-points.ts';
import { readStream } from '../../../bench/study/study-records.ts';
import type { GateKind, GateParameters } from '../../../schemas/hyper-parameters.ts';
import { testFolder } from '../../harness/clean-up.ts';
import { FakeEngine } from '../../harness/fake-engine.ts';
import { collected, facts, writeFacts } from './facts.ts';

let folder: string;
beforeEach(() => {
  folder = testFolder();
});

const gate = (kind: GateKind): GateParameters => ({ kind, map: 'joint', floor: 0.3 });
const NAMED: NamedGate[] = [
  { name: 'subject', gate: gate('subject') },
  { name: 'always', gate: gate('always') },
];

/** A fake engine, and the gates it was given. */
function watched(fake = new FakeEngine()) {
  const told: { hookId: string; kind: string | null; pairs: number }[] = [];
  const engine = replacing<GatedEngine>(fake, {
    holdHook: (hookId, pairs, given) => {
      told.push({ hookId, kind: given?.kind ?? null, pairs: pairs.count });
      return fake.holdHook(hookId, pairs);
    },
  });
  return { engine, told };
}

async function question(): Promise<GatesQuestion> {
  const file = await writeFacts(path.join(folder, 'facts.json'), facts(12));
  return {
    records: await readStream(file, [
      { from: 6, to: 12 },
      { from: 0, to: 6 },
    ]),
    unmeasured: [],
    batchSize: 4,
    marks: [3, 12],
    gates: NAMED,
    asking: { sampleMax: 100, earliestMax: 4 },
    ordinary: { sequences: 2, tokensPerSequence: 4, seed: 1 },
    circumstances: {},
  };
}

const keeping = () => ({ points: new KeptPoints(folder), edited: () => {} });

test('each gate is tested with the same pairs at each mark', async () => {
  const { engine, told } = watched();
  const points = await collected(compareGates(engine, await question(), keeping()));
  expect(
    points.map(({ corrections, name, active, sample }) => [corrections, name, active, sample]),
  ).toEqual([
    [3, 'subject', 3, 3],
    [3, 'always', 3, 3],
    [12, 'subject', 12, 12],
    [12, 'always', 12, 12],
  ]);
  expect(told.filter(({ kind }) => kind === 'always').map(({ pairs }) => pairs)).toEqual([3, 12]);
  expect(new Set(told.filter(({ kind }) => kind !== null).map(({ hookId }) => hookId)).size).toBe(
    4,
  );
  expect(points.every(({ efficacy, ordinary }) => efficacy === 1 && ordinary.openShare === 0)).toBe(
    true,
  );
});

test('another gate is measured later without editing again', async () => {
  const asked = await question();
  await collected(compareGates(watched().engine, asked, keeping()));
  const fake = new FakeEngine();
  const more = { ...asked, gates: [...NAMED, { name: 'sequence', gate: gate('sequence') }] };
  const points = await collected(compareGates(watched(fake).engine, more, keeping()));
  expect(points).toHaveLength(6);
  expect(fake.calls).not.toContain('computeTargets');
  expect(fake.calls.filter((call) => call === 'holdHook')).toHaveLength(2);
});

test('an engine that renames versions leaves HEAD and the base model alone', async () => {
  const { engine, told } = watched();
  const pairs = {
    layers: [1, 2],
    count: 0,
    subjects: [],
    spellings: [],
    keyWidth: 192,
    valueWidth: 64,
    keys: [new Float32Array(0), new Float32Array(0)],
    changes: [new Float32Array(0), new Float32Array(0)],
  };
  const renamed = renaming(engine, 'always', 'head', gate('always'));
  await renamed.holdHook('head', pairs);
  await renamed.holdHook('staged', pairs);
  expect(told.map(({ hookId, kind }) => [hookId, kind])).toEqual([
    ['head', null],
    ['always:staged', 'always'],
  ]);
  expect(await engine.holds('staged')).toBe(false);
  expect(await renamed.holds('staged')).toBe(true);
  await expect(renamed.probe('staged', [])).resolves.toEqual([]);
});

test('the base model is probed once per question', async () => {
  const fake = new FakeEngine();
  const engine = remembering(fake);
  const probe = { prompt: 'The sky is', greedyTokensMax: 1 };
  expect(await engine.probe(null, [probe])).toEqual(await engine.probe(null, [probe]));
  expect(fake.asked).toHaveLength(1);
  await engine.probe(null, [{ ...probe, greedyTokensMax: 2 }]);
  expect(fake.asked).toHaveLength(2);
});
