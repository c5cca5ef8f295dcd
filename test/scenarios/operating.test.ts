/**
 * The four processes with a real (tiny) model, a real broker and a real Temporal, operated by the
 * command line and over HTTP. Each test builds on those before it.
 */
import { beforeAll, expect, test } from 'vitest';
import { freePort } from '../../infra/local/server-process.ts';
import { invoke } from '../harness/invocation.ts';
import type { OurProcess, ProcessName } from '../harness/our-process.ts';
import { TestSystem } from '../harness/test-system.ts';
import { tinyModelSettings } from '../harness/tiny-engine.ts';
import { until } from '../harness/until.ts';

const LINEAGE = 'operated';
const PROMPTS = ['the old town is on', 'we saw the hill near'] as const;
const HYPER_PARAMETERS = {
  stepsMax: 150,
  lossTarget: 0.01,
  contexts: 2,
  contextsPerStep: 2,
  learningRate: 0.1,
};
const TIMEOUT = { timeout: 120_000 };
const containing = (text: string): unknown => expect.stringContaining(text);

let system: TestSystem;
let processes: Record<ProcessName, OurProcess>;
let url: string;
/** Answers of the base model to the prompts, and of both corrections. */
let base: string[];
let corrected: string[];

beforeAll(async () => {
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  system = await TestSystem.start({
    lineages: [LINEAGE],
    settings: () => ({
      ...tinyModelSettings(HYPER_PARAMETERS),
      ERRATA_PORT: String(port),
      ERRATA_BATCH_EDITS_MAX: '1',
    }),
  });
  processes = {
    ingest: system.process('ingest'),
    'workflow-worker': system.process('workflow-worker'),
    'edit-worker': system.process('edit-worker'),
    serve: system.process('serve'),
  };
  const { 'edit-worker': first, ...others } = processes;
  // One takes the key statistics, the others read them.
  await first.start();
  await Promise.all(Object.values(others).map((one) => one.start()));
});

const errata = async (...args: string[]) => await system.errata(...args);
const log = () => system.versions.log(LINEAGE);
const activeIds = async (): Promise<string[]> => [...(await log().read()).active.keys()].sort();

async function request<T>(route: string, body?: object): Promise<T> {
  const headers = { 'content-type': 'application/json' };
  const post = { method: 'POST', headers, body: JSON.stringify(body) };
  return (await (await fetch(`${url}${route}`, body === undefined ? {} : post)).json()) as T;
}

async function answer(model: string, prompt: string): Promise<string> {
  const body = { model, prompt, max_tokens: 6, temperature: 0 };
  const { choices } = await request<{ choices: { text: string }[] }>('/v1/completions', body);
  return choices[0]!.text;
}

async function untilServed(version: number): Promise<void> {
  type Lineages = { lineages: { version: number | null }[] };
  await until(
    async () => (await request<Lineages>('/v1/lineages')).lineages[0]!.version === version,
  );
}

async function workflowsFound(query: string): Promise<string[]> {
  const ids: string[] = [];
  for await (const { workflowId } of system.temporal.client.workflow.list({ query }))
    ids.push(workflowId);
  return ids.sort();
}

test('corrections change the answers of the served model', TIMEOUT, async () => {
  for (const [i, subject] of ['town', 'hill'].entries()) {
    const { code, err } = await errata(
      ...['submit', '--wait', '--id', `c${i + 1}`, '--subject', subject],
      ...['--prompt', PROMPTS[i]!, '--target', 'river'],
    );
    expect(code, err).toBe(0);
  }
  await untilServed(2);
  base = await Promise.all(PROMPTS.map((prompt) => answer(`${LINEAGE}@base`, prompt)));
  corrected = await Promise.all(PROMPTS.map((prompt) => answer(LINEAGE, prompt)));
  for (const [i, text] of corrected.entries()) expect(text).not.toBe(base[i]);
});

test('a revert is planned without effect in a dry run', TIMEOUT, async () => {
  const planned = await errata('revert', '1', '--dry-run', '--json');
  expect(JSON.parse(planned.out)).toMatchObject({
    head: { version: 2 },
    goes: [{ correctionId: 'c1' }],
    comesBack: [],
    nothing: null,
  });
  expect((await log().read()).head.version).toBe(2);
});

test('a revert brings back the base answers, and leaves the others', TIMEOUT, async () => {
  const why = ['--reason', 'the source was wrong', '--by', 'ada'];
  const reverted = await errata('revert', '1', ...why, '--json');
  expect(reverted.code, reverted.err).toBe(0);
  expect(JSON.parse(reverted.out)).toMatchObject({
    kind: 'undone',
    version: 3,
    removed: 1,
    restored: 0,
    before: { editNorm: expect.any(Number) as number },
    after: { editNorm: expect.any(Number) as number },
  });
  await untilServed(3);
  expect(await answer(LINEAGE, PROMPTS[0])).toBe(base[0]);
  expect(await answer(LINEAGE, PROMPTS[1])).toBe(corrected[1]);
  expect((await log().entry(3)).entry).toMatchObject({
    undo: { reason: 'the source was wrong', requestedBy: 'ada' },
  });
  const status = await errata('status');
  expect(status.out).toContain('revert of version 1 (requested by ada): done in version 3');
});

test('a revert that was done already has nothing to undo', TIMEOUT, async () => {
  expect(await errata('revert', '1')).toMatchObject({
    code: 1,
    out: containing('Nothing to undo'),
  });
});

test('Temporal finds batches by correction, outcome, version and lineage', TIMEOUT, async () => {
  const undo = 'ErrataVersion = 3 AND WorkflowType = "undo"';
  await until(async () => (await workflowsFound(undo)).length > 0);
  expect(await workflowsFound('ErrataCorrections = "c2"')).toEqual([`edit-batch/${LINEAGE}/1`]);
  expect(await workflowsFound('ErrataOutcomes = "COMMITTED" AND ErrataVersion = 1')).toEqual([
    `edit-batch/${LINEAGE}/0`,
  ]);
  const lineage = `ErrataLineage = "${LINEAGE}" AND WorkflowType = "lineage"`;
  await until(async () => (await workflowsFound(lineage)).length === 1);
  const { client } = system.temporal;
  const batch = await client.workflow.getHandle(`edit-batch/${LINEAGE}/0`).describe();
  expect(batch.memo).toMatchObject({ revisions: 1, versions: [1], outcomes: { COMMITTED: 1 } });
  expect(await batch.staticSummary()).toMatch(/^Batch 000000-.* of operated: 1 revisions$/);
});

test('a revert is finished once although its workers are killed', TIMEOUT, async () => {
  await processes['edit-worker'].kill();
  const revert = ['revert', 'c2', '--id', 'killed', '--json'];
  const reverting = errata(...revert);
  await until(
    async () => (await system.temporal.undoProgress(LINEAGE, 'killed')).kind === 'running',
  );
  await processes['workflow-worker'].kill();
  await Promise.all([processes['workflow-worker'].start(), processes['edit-worker'].start()]);
  const { code, out, err } = await reverting;
  expect(code, err).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ id: 'killed', kind: 'undone', version: 4 });
  expect(await activeIds()).toEqual([]);
  // The same id is the same undo.
  const again = JSON.parse((await errata(...revert)).out) as object;
  expect(again).toMatchObject({ kind: 'undone', version: 4 });
  expect((await log().read()).head.version).toBe(4);
});

test('a rollback serves the earlier version at once, without any worker', TIMEOUT, async () => {
  await Promise.all([processes['workflow-worker'].kill(), processes['edit-worker'].kill()]);
  corrected[0] = await answer(`${LINEAGE}@2`, PROMPTS[0]);
  const { code, err } = await errata('rollback', '--to', '2', '--id', 'back', '--timeout', '1');
  expect(code).toBe(1);
  expect(err).toContain('Serving is safe on version 2');
  expect(err).toContain(`errata rollback --to 2 --lineage ${LINEAGE} --id back`);
  await untilServed(2);
  expect(await answer(LINEAGE, PROMPTS[0])).toBe(corrected[0]);
  expect((await errata('status')).out).toContain('stable is held on version 2');
});

test('a rollback is finished when the workers come back', TIMEOUT, async () => {
  await Promise.all([processes['workflow-worker'].start(), processes['edit-worker'].start()]);
  const finished = await errata('rollback', '--to', '2', '--id', 'back');
  expect(finished.code, finished.err).toBe(0);
  expect(finished.out).toContain('follows HEAD again');
  expect(await activeIds()).toEqual(['c1', 'c2']);
  await untilServed(5);
  expect(await answer(LINEAGE, PROMPTS[0])).toBe(corrected[0]);
});

test('a frozen lineage is rolled back over HTTP, and resumed', TIMEOUT, async () => {
  expect((await errata('freeze', '--reason', 'looking at it', '--by', 'ada')).code).toBe(0);
  await until(async () => (await errata('status')).out.includes('looking at it (ada)'));
  const lineage = `/v1/lineages/${LINEAGE}`;
  const order = { to: 0, reason: 'all of it' };
  const { id } = await request<{ id: string }>(`${lineage}/rollback`, order);
  const undo = async () => await request<{ state: string }>(`${lineage}/undos/${id}`);
  await until(async () => (await undo()).state === 'ended');
  expect(await undo()).toMatchObject({ result: { kind: 'undone', version: 6, removed: 2 } });
  expect(await activeIds()).toEqual([]);
  expect((await errata('resume')).code).toBe(0);
  await until(async () => !(await errata('status')).out.includes('looking at it'));
});

test('without Temporal, a rollback moves the alias and prints the rest', TIMEOUT, async () => {
  const away = await invoke(system.folder, ['rollback', '--to', '1', '--id', 'away'], {
    ...system.environment,
    ERRATA_TEMPORAL_ADDRESS: '127.0.0.1:1',
  });
  expect(away).toMatchObject({ code: 1, out: containing('Alias stable is on version 1') });
  expect(away.err).toContain('--id away');
  await untilServed(1);
});

test('an alias is let go, and is not moved to an unknown version', TIMEOUT, async () => {
  expect((await errata('alias', 'stable', 'head', '--by', 'ada')).code).toBe(0);
  await untilServed(6);
  expect((await errata('alias', 'stable', '99')).code).toBe(1);
  expect(JSON.parse((await errata('alias', '--json')).out)).toMatchObject({
    aliases: [{ alias: 'stable', version: null, by: 'ada' }],
  });
});
