/** Rebuilds lineages with a tiny real model, bit for bit. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { RebuildRequest, Rebuilt } from '../../../operations/rebuild/rebuild-run.ts';
import { rebuildLineage } from '../../../operations/rebuild/rebuild.ts';
import { planRebuild } from '../../../operations/rebuild/rebuild-plan.ts';
import { comparisonOf } from '../../../operations/compare/compare-lineages.ts';
import { measureLineage, probedCorrections } from '../../../operations/compare/measured-lineage.ts';
import { RebuildEngines } from '../../../operations/rebuild/rebuild-engines.ts';
import { LocalEngine } from '../../../model/engine/local-engine.ts';
import type { HyperParameterOverrides } from '../../../schemas/hyper-parameters.ts';
import type { Outcome } from '../../../schemas/outcome.ts';
import { canonicalJson } from '../../../versions/log/canonical-json.ts';
import { Versions } from '../../../versions/versions.ts';
import { ADDON, tinyPath, tinyText } from '../../harness/tiny-model.ts';
import { MemoryStore } from '../../harness/memory-store.ts';
import { LENIENT, PARAMETERS, SOURCE, makeSource } from './source-lineage.ts';

const folder = mkdtempSync(join(tmpdir(), 'errata-rebuild-test-'));
const store = new MemoryStore();
const versions = new Versions(store);
let outcomes: Outcome[];

/** `asked`: the requested hyper-parameters of a fork. */
function engines(
  asked: HyperParameterOverrides = PARAMETERS,
  model = 'llama',
  within: Versions = versions,
): RebuildEngines {
  return new RebuildEngines(
    (parameters) =>
      LocalEngine.open({
        addonPath: ADDON,
        modelPath: tinyPath(model),
        statisticsFolder: join(folder, 'statistics'),
        textFile: join(folder, 'text'),
        parameters: parameters ?? asked,
      }),
    within,
  );
}

const REQUEST: RebuildRequest = {
  lineage: SOURCE,
  as: 'again',
  from: 'log',
  to: null,
  fork: false,
  settings: LENIENT,
};

async function rebuild(
  request: Partial<RebuildRequest> = {},
  around: { places?: RebuildEngines; stopped?: () => boolean; versions?: Versions } = {},
): Promise<Rebuilt> {
  const places = around.places ?? engines(PARAMETERS, 'llama', around.versions);
  try {
    return await rebuildLineage(
      { ...REQUEST, ...request },
      {
        versions: around.versions ?? versions,
        engines: places,
        kafka: null,
        progress: () => {},
        stopped: around.stopped ?? (() => false),
      },
    );
  } finally {
    await places.close();
  }
}

beforeAll(async () => {
  writeFileSync(join(folder, 'text'), tinyText(9_000, 3));
  const places = engines();
  outcomes = await makeSource(await places.with(null), versions);
  await places.close();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('the source lineage has refusals, supersessions, retractions and undos', async () => {
  const status = (id: string): string =>
    outcomes.find((outcome) => outcome.revisionId === id)!.status;
  expect(status('long')).toBe('QUARANTINED');
  const entries = (await versions.log(SOURCE).entries(1, 99)).map(({ entry }) => entry);
  expect(entries.map(({ batchId }) => batchId.split('.')[0])).toEqual([
    '000000-a',
    '000001-b',
    '000002-c',
    '000002-c',
    'undo-wrong',
    '000003-d',
  ]);
  expect(
    entries
      .slice(2, 4)
      .map(({ batchId, added }) => [
        batchId.includes('.'),
        added.map(({ correctionId }) => correctionId),
      ]),
  ).toEqual([
    [true, ['e', 'f']],
    [true, ['g']],
  ]);
  expect(status('h')).toBe('QUARANTINED');
  expect(entries[1]!.removed.map(({ because }) => because).sort()).toEqual([
    'retracted',
    'superseded',
  ]);
  expect(entries[4]!.undo?.id).toBe('wrong');
  expect((await versions.verify(SOURCE)).findings).toEqual([]);
});

it('a rebuild repeats a lineage bit for bit, even if stopped and continued', async () => {
  const before = await planRebuild(versions, REQUEST, null);
  expect(before).toMatchObject({
    kind: 'reproduction',
    versions: 6,
    there: 0,
    undos: 1,
    obstacles: [],
  });
  let asked = 0;
  const first = await rebuild({}, { stopped: () => asked++ === 2 });
  expect(first).toMatchObject({ interrupted: true, done: 2, head: 2 });
  expect(first.reproduction).toMatchObject({
    versions: 2,
    due: 6,
    identical: 2,
    reproduces: 'no',
  });
  const second = await rebuild();
  expect(second).toMatchObject({
    kind: 'reproduction',
    began: 2,
    done: 6,
    head: 6,
    stopped: null,
  });
  expect(second.reproduction).toMatchObject({
    identical: 6,
    within: 0,
    different: 0,
    comparisons: [],
    head: { sameCorrections: true, sameHook: true },
    reproduces: 'bit-for-bit',
  });
  expect((await versions.verify('again')).findings).toEqual([]);
  // Refusals beside its versions are decided there too, and no staged object remains.
  const register = await versions.log('again').register();
  expect((await register.outcomesOf(['long'])).get('long')).toMatchObject({
    status: 'QUARANTINED',
    lineage: 'again',
  });
  expect(
    [...store.objects.keys()].filter((name) => name.startsWith('lineages/again/staging/')),
  ).toEqual([]);
  // The third time there is nothing to do, and no model is loaded.
  const idle = new RebuildEngines(() => Promise.reject(new Error('loaded')), versions);
  expect((await rebuild({}, { places: idle })).reproduction!.reproduces).toBe('bit-for-bit');
});

it('a rebuild overwrites neither its source nor another lineage', async () => {
  await expect(rebuild({ as: SOURCE })).rejects.toThrow(/the one to be rebuilt/);
  await expect(rebuild({ lineage: 'again', as: SOURCE })).rejects.toThrow(/not made by a rebuild/);
  await expect(rebuild({ lineage: 'nothing', as: 'x' })).rejects.toThrow(/no versions/);
  await expect(
    rebuild({ as: 'other-model' }, { places: engines(PARAMETERS, 'gpt2') }),
  ).rejects.toThrow(/was made with/);
});

it('a rebuild reports a log that does not say how its version was made', async () => {
  const planted = await lineageWithOtherSearch();
  expect((await planted.verify(SOURCE)).findings).toEqual([]);
  const rebuilt = await rebuild({ as: 'planted', to: 1 }, { versions: planted });
  expect(rebuilt.reproduction).toMatchObject({
    reproduces: 'no',
    different: 1,
    head: { sameCorrections: true, sameHook: false },
  });
  expect(rebuilt.reproduction!.comparisons[0]).toMatchObject({
    version: 1,
    pairs: 'different',
    changes: 'identical',
  });
});

it('a fork with other hyper-parameters is edited again and compared on probes', async () => {
  const other = { ...PARAMETERS, stepsMax: 3, layers: [1] };
  const fork = await rebuild({ as: 'fork', fork: true }, { places: engines(other) });
  expect(fork).toMatchObject({ kind: 'fork', done: 6, reproduction: null });
  expect((await versions.verify('fork')).findings).toEqual([]);
  const again = await rebuild({ as: 'fork', fork: true }, { places: engines(other) });
  expect(again.head).toBe(fork.head);
  await expect(
    rebuild({ as: 'fork', fork: true }, { places: engines({ ...other, stepsMax: 4 }) }),
  ).rejects.toThrow(/begun with/);
  const [source, forked] = [await versions.log(SOURCE).read(), await versions.log('fork').read()];
  expect([...forked.active.keys()]).toEqual(expect.arrayContaining([...source.active.keys()]));
  expect(forked.latest!.entry.parameters).toMatchObject({ layers: [1], stepsMax: 3 });

  const probed = probedCorrections(source, forked);
  const sides = [];
  for (const [lineage, parameters] of [
    [SOURCE, PARAMETERS],
    ['fork', other],
  ] as const) {
    const places = engines(parameters);
    sides.push(
      await measureLineage(
        {
          engine: (await places.with(null)).engine,
          log: versions.log(lineage),
          history: await versions.log(lineage).read(),
        },
        probed,
      ),
    );
    await places.close();
  }
  const comparison = comparisonOf(sides[0]!, sides[1]!, probed);
  expect(comparison.asked.corrections).toBe(probed.length);
  expect(comparison.onlyFirst).toEqual([]);
  for (const side of comparison.sides) {
    expect(side.perplexityRatio).toBeGreaterThan(0);
    expect(side.efficacyOfAll).toBeGreaterThanOrEqual(0);
  }
  // Measured in the same way as the verdict.
  const { details } = source.latest!.entry.probes;
  const probes = JSON.parse(
    new TextDecoder().decode(await versions.log(SOURCE).blobs.get(details)),
  ) as { id: string; answerAfter: string }[];
  for (const { id, answerAfter } of probes)
    expect(sides[0]!.corrections.find((one) => one.id === id)!.answer).toBe(answerAfter);
});

it("a fork with the lineage's own hyper-parameters is a reproduction", async () => {
  const same = await rebuild({ as: 'same', fork: true, to: 1 }, { places: engines() });
  expect(same).toMatchObject({
    kind: 'reproduction',
    reproduction: { reproduces: 'bit-for-bit' },
  });
});

/**
 * The first version alone, with a search for another target than it adds: all hashes are right, but
 * the content is false.
 */
async function lineageWithOtherSearch(): Promise<Versions> {
  return await firstVersionWith(async (log, entry) => {
    const search = JSON.parse(
      new TextDecoder().decode(await versions.log(SOURCE).blobs.get(entry.searches[0]!)),
    ) as { edits: { correction: { target: string } }[] };
    search.edits[0]!.correction.target = 'piano';
    return { ...entry, searches: [await log.blobs.put(canonicalJson(search))] };
  });
}

type Entry = Awaited<ReturnType<ReturnType<Versions['log']>['entry']>>['entry'];

async function firstVersionWith(
  change: (log: ReturnType<Versions['log']>, entry: Entry) => Promise<Entry>,
): Promise<Versions> {
  const copy = new Versions(new MemoryStore());
  const [from, log] = [versions.log(SOURCE), copy.log(SOURCE)];
  const { entry } = await from.entry(1);
  for (const blob of [entry.pairs!, entry.probes.details, ...entry.searches])
    await log.blobs.put(await from.blobs.get(blob));
  await log.append(await change(log, entry));
  await log.register();
  return copy;
}
