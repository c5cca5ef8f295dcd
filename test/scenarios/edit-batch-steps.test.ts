/** A batch through its steps, one after another, on an engine without a model. */
import { expect, test } from 'vitest';
import type { EditRequest } from '../../model/engine-types.ts';
import type { CorrectionProbe } from '../../schemas/editing.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { EntryRefused } from '../../versions/log/failures.ts';
import { hookIdOf } from '../../versions/log/hook-pairs.ts';
import { correction, LINEAGE, retraction } from '../harness/corrections.ts';
import { baseAnswer, MISBEHAVING } from '../harness/fake-engine.ts';
import { runBatch, testLineage, WORKFLOW } from '../harness/test-lineage.ts';

const settings = DEFAULT_LINEAGE_SETTINGS.verdict;

test('a batch becomes a version whose entry has all that made it', async () => {
  const { activities, log } = testLineage();
  const revisions = [correction('a'), correction('b', { target: 'Oslo', previousAnswer: 'Rome' })];
  const { commit, probes, staged } = await runBatch(activities, 'batch-1', revisions);
  expect(probes.verdict).toEqual({ pass: true, reasons: [], failing: [] });
  const same = { locality: 1, retention: null };
  const before = { efficacy: 0, generalisation: 0, canaryRatio: 1, editNorm: 0 };
  expect(probes.before).toMatchObject({ ...same, ...before });
  const after = { efficacy: 1, efficacyGreedy: 1, generalisation: 1 };
  expect(probes.after).toMatchObject({ ...same, ...after, canaryRatio: 1.001, editNorm: 0.02 });
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
  const text = new TextDecoder().decode(await log.blobs.get(probes.details));
  const details = JSON.parse(text) as CorrectionProbe[];
  expect(details[1]).toMatchObject({
    id: 'b',
    effective: true,
    answerBefore: ` ${baseAnswer('Subject b is in')}`,
    answerAfter: ' Oslo',
  });
  expect(details[1]!.neighbours.every(({ unchanged }) => unchanged)).toBe(true);
});

test('other facts of its subjects are given to the search, and always probed again', async () => {
  const { activities, engine, commitBatch } = testLineage();
  const asked: EditRequest[][] = [];
  const search = engine.computeTargets.bind(engine);
  engine.computeTargets = (hookId, requests, progress) => {
    asked.push(requests);
    return search(hookId, requests, progress);
  };
  const about = (id: string, prompt: string, target: string) =>
    correction(id, { subject: 'Lyon', relation: id, prompt, target });
  await commitBatch('1', [about('river', 'Lyon lies by the', 'Rhone'), correction('b')]);
  engine.asked.length = 0;
  const { probes } = await runBatch(
    activities,
    '2',
    [about('mayor', 'Lyon has a mayor named', MISBEHAVING.erasing), correction('c')],
    { ...settings, retentionSample: 0 },
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

test('a batch supersedes and retracts, and keeps the order of the others', async () => {
  const { log, engine, commitBatch } = testLineage();
  const [a, b, c] = [correction('a'), correction('b'), correction('c')];
  await commitBatch('1', [a, b, c]);
  await commitBatch('2', [
    correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 1_500 }),
    retraction(c),
  ]);
  const history = await log.read();
  expect([...history.active.keys()]).toEqual(['b', 'a2']);
  expect((await log.entry(2)).entry.removed).toMatchObject([
    { correctionId: 'a', because: 'superseded' },
    { correctionId: 'c', because: 'retracted' },
  ]);
  const hookId = hookIdOf([...history.active.values()]);
  const asked = ['a', 'c'].map((id) => ({ prompt: `Subject ${id} is in`, greedyTokensMax: 1 }));
  const [answer, retracted] = await engine.probe(hookId, asked);
  expect(answer!.answer).toBe(' Oslo');
  expect(retracted).toMatchObject({ opened: false, answer: ` ${baseAnswer('Subject c is in')}` });
});

test('a retraction of the last correction leads back to the base model', async () => {
  const { activities, log, commitBatch } = testLineage();
  const a = correction('a');
  await commitBatch('1', [a]);
  const { commit, staged } = await runBatch(activities, '2', [retraction(a)]);
  expect(staged).toMatchObject({ pairs: null, rows: [], layers: [] });
  await commit();
  expect((await log.read()).active.size).toBe(0);
});

test('the committed hook stays held, so the next batch builds only one', async () => {
  const { engine, commitBatch } = testLineage();
  await commitBatch('1', [correction('a')]);
  engine.calls.length = 0;
  await commitBatch('2', [correction('b')]);
  expect(engine.calls.filter((call) => call === 'holdHook')).toHaveLength(1);
});

test('a batch continues after a crash that lost every hook, at any step', async () => {
  const { activities, engine, store, commitBatch } = testLineage();
  await commitBatch('1', [correction('a')]);
  const batch = { lineage: LINEAGE, batchId: '2' };
  const plan = await activities.planBatch({ ...batch, revisions: [correction('b')] });
  const { head, edits, removals } = plan;
  const step = { ...batch, head, edits, removals };
  engine.forgetHooks();
  const shard = await activities.computeTargets(step);
  const other = testLineage({ store }).activities;
  const staged = await other.stageUpdate({ ...step, shards: [shard] });
  const third = testLineage({ store });
  const probes = await third.activities.runProbes({ ...step, staged, settings });
  expect(probes.verdict.pass).toBe(true);
  expect(probes.before.retention).toBe(1);
  const result = { ...step, withdrawals: [], staged, probes, workflow: WORKFLOW };
  const committed = await third.activities.commitVersion(result);
  expect(committed).toMatchObject({ kind: 'committed', version: 2 });
});

test('every step gives the same result when it is repeated', async () => {
  const { activities, commitBatch } = testLineage();
  await commitBatch('1', [correction('a')]);
  const revisions = [correction('b'), correction('c')];
  const first = await runBatch(activities, '2', revisions);
  const second = await runBatch(activities, '2', revisions);
  const timeless = ({ plan, shard, staged, probes }: typeof first) => ({
    plan,
    shard: { ...shard, seconds: 0 },
    staged: { ...staged, seconds: 0 },
    probes: { ...probes, seconds: 0 },
  });
  expect(timeless(second)).toEqual(timeless(first));
});

test.each<[string, { model?: object; parameters?: object }]>([
  ['base model', { model: { sha256: 'ef'.repeat(32) } }],
  ['layers', { parameters: { layers: [3] } }],
])('another %s than HEAD was made with is found before any edit', async (name, difference) => {
  const { activities, engine, commitBatch } = testLineage();
  await commitBatch('1', [correction('a')]);
  const { model, parameters, ...description } = await engine.describe();
  engine.describe = () =>
    Promise.resolve({
      ...description,
      model: { ...model, ...difference.model },
      parameters: { ...parameters, ...difference.parameters },
    });
  const reason = new RegExp(`was made with another model: ${name}`);
  await expect(runBatch(activities, '2', [correction('b')])).rejects.toThrow(reason);
  const retracting = runBatch(activities, '3', [retraction(correction('a'))]);
  await expect(retracting).rejects.toThrow(/was made with another model/);
});

test('a refused correction leaves the one that it was to supersede', async () => {
  for (const target of [MISBEHAVING.refusedTarget, MISBEHAVING.refusedUpdate]) {
    const { activities, log, commitBatch } = testLineage();
    await commitBatch('1', [correction('a'), correction('b')]);
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
    expect((await log.entry(2)).entry.removed).toMatchObject([{ correctionId: 'b' }]);
  }
});

test('after a refusal the rest is staged from the targets found for all', async () => {
  const { activities, log } = testLineage();
  const revisions = ['a', 'b', 'c', 'd'].map((id) => correction(id, { target: `Town ${id}` }));
  const { step } = await runBatch(activities, '1', revisions);
  const shards = [
    await activities.computeTargets({ ...step, edits: step.edits.slice(2) }),
    await activities.computeTargets({ ...step, edits: step.edits.slice(0, 2) }),
  ];
  const rest = { ...step, edits: [step.edits[3]!, step.edits[1]!] };
  const staged = await activities.stageUpdate({ ...rest, shards });
  expect(staged.rows).toEqual(['d', 'b']);
  const probes = await activities.runProbes({ ...rest, staged, settings });
  expect(probes).toMatchObject({ after: { efficacy: 1 }, verdict: { pass: true } });
  await activities.commitVersion({ ...rest, withdrawals: [], staged, probes, workflow: WORKFLOW });
  expect([...(await log.read()).active.keys()]).toEqual(['d', 'b']);
});

test('refusals of all corrections leave nothing to commit', async () => {
  const { activities } = testLineage();
  const refused = correction('a', { target: MISBEHAVING.refusedTarget });
  const { staged, shard, commit } = await runBatch(activities, '1', [refused]);
  expect(shard).toMatchObject({ targets: null, accepted: [] });
  expect(staged).toMatchObject({ pairs: null, rows: [] });
  await expect(commit()).rejects.toThrow(EntryRefused);
});
