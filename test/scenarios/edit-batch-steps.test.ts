import { once } from 'node:events';
import { MockActivityEnvironment } from '@temporalio/testing';
import { describe, expect, it } from 'vitest';
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import type { EditRequest } from '../../model/engine-types.ts';
import type { CorrectionProbe } from '../../schemas/editing.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { EntryRefused, StagingGone } from '../../versions/log/failures.ts';
import { hookIdOf } from '../../versions/log/hook-pairs.ts';
import { Versions } from '../../versions/versions.ts';
import { baseAnswer, FakeEngine, MISBEHAVING } from '../harness/fake-engine.ts';
import { MemoryStore } from '../versions/stores/memory-store.ts';
import { correction, LINEAGE, retraction } from '../harness/corrections.ts';
import { runBatch, WORKFLOW } from '../harness/test-lineage.ts';

function freshWorker(store = new MemoryStore()) {
  const engine = new FakeEngine();
  const versions = new Versions(store);
  const activities = {
    ...createEditActivities({ engine, versions }),
    ...createLedgerActivities({ versions }),
  };
  return { store, engine, versions, log: versions.log(LINEAGE), activities };
}

describe('a batch', () => {
  it('becomes a version that says all that made it', async () => {
    const { activities, log } = freshWorker();
    const revisions = [
      correction('a'),
      correction('b', { target: 'Oslo', previousAnswer: 'Rome' }),
    ];
    const { commit, probes, staged } = await runBatch(activities, 'batch-1', revisions);
    expect(probes.verdict).toEqual({ pass: true, reasons: [], failing: [] });
    expect(probes.before).toMatchObject({
      efficacy: 0,
      generalisation: 0,
      locality: 1,
      retention: null,
      canaryRatio: 1,
      editNorm: 0,
    });
    expect(probes.after).toMatchObject({
      efficacy: 1,
      efficacyGreedy: 1,
      generalisation: 1,
      locality: 1,
      retention: null,
      canaryRatio: 1.001,
      editNorm: 0.02,
    });
    const committed = await commit();
    expect(committed).toMatchObject({ kind: 'committed', version: 1, already: false });
    expect((await log.entry(1)).entry).toMatchObject({
      batchId: 'batch-1',
      corrections: 2,
      added: [
        { correctionId: 'a', row: 0, position: revisions[0]!.position },
        { correctionId: 'b', row: 1, target: 'Oslo' },
      ],
      pairs: { sha256: staged.pairs!.sha256, bytes: staged.pairs!.bytes },
      workflow: WORKFLOW,
      base: { name: 'fake' },
      parameters: { lambda: 1, gate: { kind: 'sequence' } },
      layers: [
        { layer: 1, editNorm: 0.02 },
        { layer: 2, editNorm: 0.02 },
      ],
    });
    const details = JSON.parse(
      new TextDecoder().decode(await log.blobs.get(probes.details)),
    ) as CorrectionProbe[];
    expect(details[1]).toMatchObject({
      id: 'b',
      effective: true,
      answerBefore: ` ${baseAnswer('Subject b is in')}`,
      answerAfter: ' Oslo',
    });
    expect(details[1]!.neighbours.every(({ unchanged }) => unchanged)).toBe(true);
  });

  it('is searched with the other facts of its subjects in mind, and those are asked again whatever the sample', async () => {
    const { activities, engine } = freshWorker();
    const asked: EditRequest[][] = [];
    const search = engine.computeTargets.bind(engine);
    engine.computeTargets = (hookId, requests, progress) => {
      asked.push(requests);
      return search(hookId, requests, progress);
    };
    const about = (id: string, prompt: string, target: string) =>
      correction(id, { subject: 'Lyon', relation: id, prompt, target });
    await (
      await runBatch(activities, '1', [
        about('river', 'Lyon lies by the', 'Rhone'),
        correction('b'),
      ])
    ).commit();
    engine.asked.length = 0;
    const { probes } = await runBatch(
      activities,
      '2',
      [about('mayor', 'Lyon has a mayor named', MISBEHAVING.erasing), correction('c')],
      { ...DEFAULT_LINEAGE_SETTINGS.verdict, retentionSample: 0 },
    );
    expect(asked[1]!.map(({ id, alongside }) => [id, alongside])).toEqual([
      ['mayor', [{ prompt: 'Lyon lies by the', target: 'Rhone' }]],
      ['c', []],
    ]);
    expect(engine.asked.some(({ probe }) => probe.prompt === 'Lyon lies by the')).toBe(true);
    expect(probes.verdict.failing.map(({ id, code }) => [id, code])).toEqual([
      ['mayor', 'harms-earlier-corrections'],
    ]);
  });

  it('supersedes, retracts and keeps the order of what remains', async () => {
    const { activities, log, engine } = freshWorker();
    const [a, b, c] = [correction('a'), correction('b'), correction('c')];
    await (await runBatch(activities, '1', [a, b, c])).commit();
    await (
      await runBatch(activities, '2', [
        correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 1_500 }),
        retraction(c),
      ])
    ).commit();
    const history = await log.read();
    expect([...history.active.keys()]).toEqual(['b', 'a2']);
    expect(
      (await log.entry(2)).entry.removed.map(({ correctionId, because }) => [
        correctionId,
        because,
      ]),
    ).toEqual([
      ['a', 'superseded'],
      ['c', 'retracted'],
    ]);
    const hookId = hookIdOf([...history.active.values()]);
    const [answer] = await engine.probe(hookId, [
      { prompt: 'Subject a is in', greedyTokensMax: 1 },
    ]);
    expect(answer!.answer).toBe(' Oslo');
    const [retracted] = await engine.probe(hookId, [
      { prompt: 'Subject c is in', greedyTokensMax: 1 },
    ]);
    expect(retracted).toMatchObject({ opened: false, answer: ` ${baseAnswer('Subject c is in')}` });
  });

  it('that only retracts the last correction ends on the base model', async () => {
    const { activities, log } = freshWorker();
    const a = correction('a');
    await (await runBatch(activities, '1', [a])).commit();
    const { commit, staged } = await runBatch(activities, '2', [retraction(a)]);
    expect(staged).toMatchObject({ pairs: null, rows: [], layers: [] });
    await commit();
    expect((await log.read()).active.size).toBe(0);
  });

  it('leaves the committed hook held, so that the next batch builds one hook only', async () => {
    const { activities, engine } = freshWorker();
    await (await runBatch(activities, '1', [correction('a')])).commit();
    engine.calls.length = 0;
    await (await runBatch(activities, '2', [correction('b')])).commit();
    expect(engine.calls.filter((call) => call === 'holdHook')).toHaveLength(1);
  });

  it('goes on after a crash that lost every hook, at any step', async () => {
    const { activities, engine, store } = freshWorker();
    await (await runBatch(activities, '1', [correction('a')])).commit();
    const plan = await activities.planBatch({
      lineage: LINEAGE,
      batchId: '2',
      revisions: [correction('b')],
    });
    const step = {
      lineage: LINEAGE,
      batchId: '2',
      head: plan.head,
      edits: plan.edits,
      removals: plan.removals,
    };
    engine.forgetHooks();
    const shard = await activities.computeTargets(step);
    const other = freshWorker(store).activities;
    const staged = await other.stageUpdate({ ...step, shards: [shard] });
    const third = freshWorker(store);
    const probes = await third.activities.runProbes({
      ...step,
      staged,
      settings: DEFAULT_LINEAGE_SETTINGS.verdict,
    });
    expect(probes.verdict.pass).toBe(true);
    expect(probes.before.retention).toBe(1);
    expect(
      await third.activities.commitVersion({
        ...step,
        withdrawals: [],
        staged,
        probes,
        workflow: WORKFLOW,
      }),
    ).toMatchObject({ kind: 'committed', version: 2 });
  });

  it('every step run twice gives the same', async () => {
    const { activities } = freshWorker();
    await (await runBatch(activities, '1', [correction('a')])).commit();
    const revisions = [correction('b'), correction('c')];
    const [first, second] = [
      await runBatch(activities, '2', revisions),
      await runBatch(activities, '2', revisions),
    ];
    const timeless = ({ plan, shard, staged, probes }: typeof first) => ({
      plan,
      shard: { ...shard, seconds: 0 },
      staged: { ...staged, seconds: 0 },
      probes: { ...probes, seconds: 0 },
    });
    expect(timeless(second)).toEqual(timeless(first));
  });
});

describe('another base model, or other blocks, than HEAD was made with', () => {
  it.each([
    ['base model', { model: { sha256: 'ef'.repeat(32) } }],
    ['layers', { parameters: { layers: [3] } }],
  ])('is found before anything is edited: %s', async (name, difference) => {
    const { activities, engine } = freshWorker();
    await (await runBatch(activities, '1', [correction('a')])).commit();
    const { model, parameters, ...description } = await engine.describe();
    engine.describe = () =>
      Promise.resolve({
        ...description,
        model: { ...model, ...('model' in difference ? difference.model : {}) },
        parameters: { ...parameters, ...('parameters' in difference ? difference.parameters : {}) },
      });
    await expect(runBatch(activities, '2', [correction('b')])).rejects.toThrow(
      new RegExp(`was made with another model: ${name}`),
    );
    await expect(runBatch(activities, '3', [retraction(correction('a'))])).rejects.toThrow(
      /was made with another model/,
    );
  });
});

describe('refusals on the way', () => {
  it('keep the correction that a refused one was to supersede', async () => {
    for (const target of [MISBEHAVING.refusedTarget, MISBEHAVING.refusedUpdate]) {
      const { activities, log } = freshWorker();
      await (await runBatch(activities, '1', [correction('a'), correction('b')])).commit();
      const newer = { issuedAt: 2_000 };
      const { commit, shard, staged } = await runBatch(activities, '2', [
        correction('a2', { subject: 'Subject a', target, ...newer }),
        correction('b2', { subject: 'Subject b', target: 'Oslo', ...newer }),
      ]);
      expect([...shard.refused, ...staged.refused].map(({ id }) => id)).toEqual(['a2']);
      expect(staged.rows).toEqual(['b2']);
      await commit();
      const history = await log.read();
      expect([...history.active.keys()]).toEqual(['a', 'b2']);
      expect((await log.entry(2)).entry.removed.map(({ correctionId }) => correctionId)).toEqual([
        'b',
      ]);
    }
  });

  it('let the rest be staged again from the targets that were found for all', async () => {
    const { activities, log } = freshWorker();
    const revisions = ['a', 'b', 'c', 'd'].map((id) => correction(id, { target: `Town ${id}` }));
    const { step } = await runBatch(activities, '1', revisions);
    const shards = [
      await activities.computeTargets({ ...step, edits: step.edits.slice(2) }),
      await activities.computeTargets({ ...step, edits: step.edits.slice(0, 2) }),
    ];
    const rest = { ...step, edits: [step.edits[3]!, step.edits[1]!] };
    const staged = await activities.stageUpdate({ ...rest, shards });
    expect(staged.rows).toEqual(['d', 'b']);
    const probes = await activities.runProbes({
      ...rest,
      staged,
      settings: DEFAULT_LINEAGE_SETTINGS.verdict,
    });
    expect(probes).toMatchObject({ after: { efficacy: 1 }, verdict: { pass: true } });
    await activities.commitVersion({
      ...rest,
      withdrawals: [],
      staged,
      probes,
      workflow: WORKFLOW,
    });
    expect([...(await log.read()).active.keys()]).toEqual(['d', 'b']);
  });

  it('of all corrections leave nothing to commit', async () => {
    const { activities } = freshWorker();
    const { staged, shard, commit } = await runBatch(activities, '1', [
      correction('a', { target: MISBEHAVING.refusedTarget }),
    ]);
    expect(shard).toMatchObject({ targets: null, accepted: [] });
    expect(staged).toMatchObject({ pairs: null, rows: [] });
    await expect(commit()).rejects.toThrow(EntryRefused);
  });
});

describe('the probes', () => {
  it('find the correction that does not take', async () => {
    const { activities } = freshWorker();
    const { probes, commit } = await runBatch(activities, '1', [
      correction('a'),
      correction('b', { target: MISBEHAVING.ineffective }),
      correction('c'),
      correction('d'),
    ]);
    expect(probes.verdict).toMatchObject({
      pass: false,
      reasons: [],
      failing: [{ id: 'b', code: 'not-effective' }],
    });
    expect(probes.after.efficacy).toBe(0.75);
    await expect(commit()).rejects.toThrow(/its probes failed/);
  });

  it.each([
    [MISBEHAVING.spreading, /locality 0: 0 of 4/],
    [MISBEHAVING.erasing, /retention 0: 0 of 4/],
    [MISBEHAVING.gibberish, /perplexity/],
  ])('find a batch that harms: %s', async (target, reason) => {
    const { activities } = freshWorker();
    await (
      await runBatch(
        activities,
        '1',
        ['p', 'q', 'r', 's'].map((id) => correction(id)),
      )
    ).commit();
    const { probes } = await runBatch(activities, '2', [
      correction('poison', { target }),
      correction('a'),
    ]);
    expect(probes.verdict.failing).toEqual([]);
    expect(probes.verdict.reasons).toEqual([expect.stringMatching(reason)]);
    const alone = await runBatch(activities, '3', [correction('poison', { target })]);
    expect(alone.probes.verdict.failing).toMatchObject([{ id: 'poison' }]);
  });

  it('find paraphrases that keep the old answer', async () => {
    const { activities } = freshWorker();
    const { probes } = await runBatch(activities, '1', [
      correction('a', { target: MISBEHAVING.narrow }),
    ]);
    expect(probes.after.generalisation).toBe(0);
    expect(probes.verdict.failing).toMatchObject([{ id: 'a', code: 'does-not-generalise' }]);
  });

  it('ask nothing twice, and the base model only where a gate opened', async () => {
    const { activities, engine } = freshWorker();
    await (await runBatch(activities, '1', [correction('a', { previousAnswer: 'Rome' })])).commit();
    const revisions = [correction('b', { previousAnswer: 'Rome' }), correction('c')];
    engine.asked.length = 0;
    const { staged } = await runBatch(activities, '2', revisions);
    const asked = engine.asked.map((one) => JSON.stringify(one));
    expect(new Set(asked).size).toBe(asked.length);
    const ofBase = engine.asked
      .filter(({ hookId }) => hookId === null)
      .map(({ probe }) => probe.prompt);
    expect(ofBase).toEqual(['Subject c is in']);
    engine.asked.length = 0;
    await runBatch(activities, '2', revisions);
    expect(staged.rows).toEqual(['b', 'c']);
    expect(engine.asked).toEqual([]);
  });

  it('sample earlier corrections up to the number set, and not those that leave', async () => {
    const { activities, engine } = freshWorker();
    const earlier = Array.from({ length: 6 }, (_, i) => correction(`e${i}`));
    await (await runBatch(activities, '1', earlier)).commit();
    engine.asked.length = 0;
    const few = { ...DEFAULT_LINEAGE_SETTINGS.verdict, retentionSample: 3 };
    const { probes } = await runBatch(
      activities,
      '2',
      [
        retraction(earlier[0]!),
        retraction(earlier[1]!),
        retraction(earlier[2]!),
        retraction(earlier[3]!),
      ],
      few,
    );
    expect(probes.after).toMatchObject({
      retention: 1,
      efficacy: null,
      generalisation: null,
      locality: null,
    });
    expect(new Set(engine.asked.map(({ probe }) => probe.prompt))).toEqual(
      new Set(['Subject e4 is in', 'Subject e5 is in']),
    );
  });
});

describe('commit-version', () => {
  it('run again finds its own version', async () => {
    const { activities, log } = freshWorker();
    const { commit } = await runBatch(activities, '1', [correction('a')]);
    const [first, again] = [await commit(), await commit()];
    expect(again).toEqual({ ...first, already: true });
    expect((await log.read()).head.version).toBe(1);
  });

  it('tells of a HEAD that moved, and writes nothing', async () => {
    const { activities, log } = freshWorker();
    const slow = await runBatch(activities, 'slow', [correction('a')]);
    await (await runBatch(activities, 'quick', [correction('b')])).commit();
    const head = (await log.read()).head;
    expect(await slow.commit()).toEqual({ kind: 'head-moved', head });
    expect((await log.read()).head).toEqual(head);
  });

  it('of two workers at once commits one batch, whichever', async () => {
    const store = new MemoryStore();
    const [one, two] = [freshWorker(store), freshWorker(store)];
    const [a, b] = [
      await runBatch(one.activities, 'a', [correction('a')]),
      await runBatch(two.activities, 'b', [correction('b')]),
    ];
    const results = await Promise.all([a.commit(), b.commit()]);
    expect(results.map(({ kind }) => kind).sort()).toEqual(['committed', 'head-moved']);
  });

  it('of one batch in two workers at once makes one version for both', async () => {
    const store = new MemoryStore();
    const [one, two] = [freshWorker(store), freshWorker(store)];
    const revisions = [correction('a')];
    const runs = [
      await runBatch(one.activities, 'a', revisions),
      await runBatch(two.activities, 'a', revisions),
    ];
    const results = await Promise.all(runs.map((run) => run.commit()));
    expect(results).toMatchObject([
      { kind: 'committed', version: 1 },
      { kind: 'committed', version: 1 },
    ]);
    expect((await one.log.read()).head.version).toBe(1);
  });

  it('refuses a version of which something staged is gone', async () => {
    const { activities, log } = freshWorker();
    const { commit } = await runBatch(activities, '1', [correction('a')]);
    await activities.discard({ lineage: LINEAGE, batchId: '1' });
    await expect(commit()).rejects.toThrow(StagingGone);
    expect((await log.read()).head.version).toBe(0);
  });
});

describe('discard', () => {
  it('takes back all that a batch and its parts staged, twice if need be, and nothing that was committed', async () => {
    const { activities, log, store } = freshWorker();
    const staging = () => [...store.objects.keys()].filter((name) => name.includes('/staging/'));
    const kept = await runBatch(activities, '1', [correction('a')]);
    await kept.commit();
    const { entry } = await log.entry(1);
    const refused = await runBatch(activities, '1.b', [
      correction('b', { target: MISBEHAVING.ineffective }),
    ]);
    const other = await runBatch(activities, '2', [correction('c')]);
    expect(staging().length).toBeGreaterThan(5);
    for (let i = 0; i < 2; i += 1) await activities.discard({ lineage: LINEAGE, batchId: '1' });
    for (const blob of [entry.pairs!, entry.probes.details]) await log.blobs.get(blob);
    await expect(log.blobs.get(refused.staged.pairs!)).rejects.toThrow(StagingGone);
    expect((await other.commit()).kind).toBe('committed');
    await activities.discard({ lineage: LINEAGE, batchId: '2' });
    expect(staging()).toEqual([]);
  });
});

describe('plan-batch of a batch that is committed already', () => {
  it('has nothing to do and an outcome for every revision, as they were decided then', async () => {
    const { activities } = freshWorker();
    await (await runBatch(activities, '1', [correction('old')])).commit();
    const [fresh, refused, twice] = [
      correction('fresh'),
      correction('refused', { target: MISBEHAVING.refusedTarget }),
      correction('old'),
    ];
    const gone = retraction(correction('old'));
    const run = await runBatch(activities, '2', [fresh, refused, twice, gone]);
    const committed = await run.commit();
    await (await runBatch(activities, '3', [correction('later')])).commit();
    const plan = await activities.planBatch({
      lineage: LINEAGE,
      batchId: '2',
      revisions: [fresh, refused, twice, gone],
    });
    expect(plan).toMatchObject({
      edits: [],
      removals: [],
      withdrawals: [],
      committed: { version: 2, hash: committed.kind === 'committed' && committed.hash },
    });
    expect(
      Object.fromEntries(
        plan.settled.map(({ revisionId, status, version }) => [revisionId, `${status} ${version}`]),
      ),
    ).toEqual({
      fresh: 'COMMITTED 2',
      refused: 'QUARANTINED null',
      old: 'DUPLICATE 1',
      [gone.id]: 'RETRACTED 2',
    });
  });
});

describe('under Temporal', () => {
  it("a step beats with the engine's progress and stops when it is cancelled", async () => {
    const { activities, engine } = freshWorker();
    const environment = new MockActivityEnvironment();
    const beats: unknown[] = [];
    environment.on('heartbeat', (details: unknown) => beats.push(details));
    const step = {
      lineage: LINEAGE,
      batchId: '1',
      head: { version: 0, hash: null },
      edits: [correction('a')],
      removals: [],
    };
    await environment.run(activities.computeTargets, step);
    expect(beats).toContainEqual({ stage: 'targets', step: 1, stepsMax: 4, unfinished: 1 });
    // A worker that stops in the middle of a step gives it back at once.
    engine.computeTargets = () => new Promise(() => {});
    const begun = once(environment, 'heartbeat');
    const running = environment.run(activities.computeTargets, step);
    await begun;
    environment.cancel();
    await expect(running).rejects.toThrow(/cancelled/i);
  });

  it('steps of two lineages at once take turns, and one that is cancelled while it waits does not let the next in early', async () => {
    const { activities, engine } = freshWorker();
    let running = 0;
    let most = 0;
    const derive = engine.computeTargets.bind(engine);
    const waiting: (() => void)[] = [];
    engine.computeTargets = async (...parameters) => {
      running += 1;
      most = Math.max(most, running);
      await new Promise<void>((resolve) => waiting.push(resolve));
      running -= 1;
      return derive(...parameters);
    };
    const step = (lineage: string) => ({
      lineage,
      batchId: '1',
      head: { version: 0, hash: null },
      edits: [correction('a')],
      removals: [],
    });
    const letGo = async () => {
      while (waiting.length === 0) await new Promise((resolve) => setImmediate(resolve));
      waiting.shift()!();
    };
    const first = activities.computeTargets(step('l'));
    const cancelled = new MockActivityEnvironment();
    const waits = once(cancelled, 'heartbeat');
    const second = expect(cancelled.run(activities.computeTargets, step('m'))).rejects.toThrow(
      /cancelled/i,
    );
    expect(await waits).toEqual([{ stage: 'waiting' }]);
    const third = activities.computeTargets(step('n'));
    cancelled.cancel();
    await letGo();
    await first;
    await second;
    await letGo();
    await third;
    expect(most).toBe(1);
  });
});
