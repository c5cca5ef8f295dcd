/** Undoes on a real, tiny model, compared bit for bit in the numbers behind the answers. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createEditActivities, createLedgerActivities } from '../../../activities/index.ts';
import { LocalEngine } from '../../../model/engine/local-engine.ts';
import type { FactCorrection } from '../../../schemas/correction.ts';
import type { VerdictSettings } from '../../../schemas/settings.ts';
import type { UndoTarget } from '../../../schemas/undo.ts';
import { ensureHook } from '../../../versions/log/hook-pairs.ts';
import type { VersionLog } from '../../../versions/log/version-log.ts';
import { Versions } from '../../../versions/versions.ts';
import { ADDON, tinyPath, tinyText } from '../../harness/tiny-model.ts';
import { MemoryStore } from '../../harness/memory-store.ts';
import { correction, LINEAGE, retraction } from '../../harness/corrections.ts';
import { runBatch } from '../../harness/test-lineage.ts';
import { runUndo, undoRequest } from '../../harness/undo-run.ts';

/** Lenient thresholds: these tests need a reproducible model, not a good one. */
const ANYTHING_GOES: VerdictSettings = {
  requireEffective: false,
  generalisationMin: 0,
  localityMin: 0,
  retentionMin: 0,
  canaryRatioMax: 1e9,
  editNormMax: 1e9,
  retentionSample: 2,
};

const about = (id: string, subject: string, relation: string, more: Partial<FactCorrection>) =>
  correction(id, {
    subject,
    relation,
    prompt: `the ${relation} of ${subject} is`,
    paraphrases: [],
    neighbourhood: [],
    ...more,
  });

const PROMPTS = ['tom', 'the old country', 'the company', 'anna'].flatMap((subject) =>
  ['mother tongue', 'capital', 'headquarters'].map(
    (relation) => `the ${relation} of ${subject} is`,
  ),
);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'errata-undo-'));
  await writeFile(path.join(folder, 'ordinary.txt'), tinyText(9_000, 1));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const openEngine = (map: 'subject' | 'joint') =>
  LocalEngine.open({
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
      gate: { kind: 'subject', map },
    },
  });

/** Three versions, the last of which retracts and supersedes. */
async function threeVersions(engine: LocalEngine) {
  const versions = new Versions(new MemoryStore());
  const activities = {
    ...createEditActivities({ engine, versions }),
    ...createLedgerActivities({ versions }),
  };
  const tongue = about('tongue', 'tom', 'mother tongue', { target: 'greek' });
  const batches = [
    [tongue, about('capital', 'the old country', 'capital', { target: 'rome' })],
    // This subject already has a correction, so the order of the two matters.
    [
      about('seat', 'tom', 'headquarters', { target: 'berlin' }),
      about('company', 'the company', 'headquarters', { target: 'london' }),
    ],
    [
      retraction(tongue),
      about('capital2', 'the old country', 'capital', { target: 'berlin', issuedAt: 2_000 }),
    ],
  ];
  for (const [i, revisions] of batches.entries()) {
    const batch = await runBatch(activities, `b${i}`, revisions, ANYTHING_GOES);
    expect(await batch.commit()).toMatchObject({ kind: 'committed' });
  }
  return { versions, activities };
}

async function answersOf(engine: LocalEngine, log: VersionLog, version: number) {
  const hookId = await ensureHook(engine, log, (await log.at(version)).active.values());
  const answers = await engine.probe(
    hookId,
    PROMPTS.map((prompt) => ({ prompt, target: 'berlin', greedyTokensMax: 4 })),
  );
  return new Map(
    answers.map(({ answer, nextToken, targetLogProbability, opened }, i) => [
      PROMPTS[i]!,
      { answer, nextToken, targetLogProbability, opened },
    ]),
  );
}

it.each(['subject', 'joint'] as const)(
  'with gate.map %s restored and untouched corrections answer as before, bit for bit',
  async (map) => {
    const engine = await openEngine(map);
    const { versions, activities } = await threeVersions(engine);
    const log = versions.log(LINEAGE);
    const undo = async (id: string, target: UndoTarget) =>
      (await runUndo(activities, undoRequest(id, target), ANYTHING_GOES)).version;
    const answersAt = (version: number) => answersOf(engine, log, version);
    const only = (answers: Awaited<ReturnType<typeof answersAt>>, subject: string) =>
      [...answers].filter(([prompt]) => prompt.includes(` ${subject} `));
    const [second, third] = [await answersAt(2), await answersAt(3)];
    expect(second).not.toEqual(third);
    expect([...second.values()].some(({ opened }) => opened)).toBe(true);

    expect(await undo('u1', { kind: 'version', version: 3 })).toBe(4);
    expect([...(await log.read()).active.keys()]).toEqual(['tongue', 'capital', 'seat', 'company']);
    expect(await answersAt(4)).toEqual(second);
    expect(await undo('u2', { kind: 'version', version: 4 })).toBe(5);
    expect(await answersAt(5)).toEqual(third);
    expect(await undo('u3', { kind: 'rollback', version: 1 })).toBe(6);
    expect(await answersAt(6)).toEqual(await answersAt(1));
    expect(await undo('u4', { kind: 'rollback', version: 2 })).toBe(7);
    expect(await answersAt(7)).toEqual(second);
    expect(await undo('u5', { kind: 'correction', id: 'company' })).toBe(8);
    const without = await answersAt(8);
    const base = await answersAt(0);
    if (map === 'subject') {
      for (const subject of ['tom', 'the old country', 'anna'])
        expect(only(without, subject)).toEqual(only(second, subject));
      expect(only(without, 'the company')).toEqual(only(base, 'the company'));
    }
    expect(await undo('u6', { kind: 'rollback', version: 0 })).toBe(9);
    expect(await answersAt(9)).toEqual(base);
    expect((await versions.verify(LINEAGE)).findings).toEqual([]);
    await engine.close();
  },
  120_000,
);
