import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { DeterminismViolationError } from '@temporalio/workflow';
import { Worker, type WorkflowBundle } from '@temporalio/worker';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, it } from 'vitest';
import { bundleWorkflows } from '../../../pipelines/temporal/workflow-bundle.ts';
import { quietRuntime } from '../../harness/time-skipping.ts';

const folder = fileURLToPath(new URL('.', import.meta.url));
const releases = readdirSync(folder, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);
const names = releases.flatMap((release) =>
  readdirSync(`${folder}${release}`).map((name) => `${release}/${name}`),
);
const textOf = (name: string): string => readFileSync(`${folder}${name}`, 'utf8');
const workflowIdIn = (text: string): string =>
  text.match(/(lineage|edit-batch|undo)\/l\d+(\/\w+)?/)?.[0] ?? 'unknown';

let workflowBundle: WorkflowBundle;
beforeAll(async () => {
  quietRuntime();
  workflowBundle = await bundleWorkflows();
});

/** The error of each history's replay; null if the current workflows do the same. */
async function replayed(texts: ReadonlyMap<string, string>): Promise<Map<string, Error | null>> {
  const found = new Map<string, Error | null>();
  const nameOf = new Map<string, string>();
  const histories = [...texts].map(([name, text]) => {
    const workflowId = JSON.stringify([workflowIdIn(text), name]);
    nameOf.set(workflowId, name);
    return { workflowId, history: historyFromJSON(JSON.parse(text)) };
  });
  const replays = Worker.runReplayHistories({ workflowBundle }, histories);
  for await (const { workflowId, error } of replays)
    found.set(nameOf.get(workflowId)!, error ?? null);
  return found;
}

it('histories of the release in package.json are recorded', () => {
  const { version } = JSON.parse(
    readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
  ) as { version: string };
  expect(releases).toContain(version);
  expect(names.filter((name) => name.startsWith(`${version}/`)).length).toBeGreaterThan(8);
});

it('recorded histories replay on the current workflows', async () => {
  const found = await replayed(new Map(names.map((name) => [name, textOf(name)])));
  expect([...found.keys()].sort()).toEqual([...names].sort());
  expect([...found].filter(([, error]) => error !== null)).toEqual([]);
});

it.each([
  ['0.3.0/edit-batch-split.json', '"stageUpdate"', '"stageSomethingElse"'],
  ['0.3.0/lineage-frozen.json', '"editBatch"', '"editSomethingElse"'],
  ['0.3.0/undo-version.json', '"commitUndo"', '"commitSomethingElse"'],
  ['0.3.0/lineage-undo.json', '"undo"', '"redo"'],
  ['0.3.0/lineage-given-up.json', '"alert"', '"shout"'],
])('a change of %s from %s to %s is found, and no other history fails', async (name, from, to) => {
  const changed = textOf(name).replaceAll(`{"name":${from}}`, `{"name":${to}}`);
  expect(changed).not.toBe(textOf(name));
  const other = names.find((one) => one !== name)!;
  const texts = [
    [name, changed],
    [other, textOf(other)],
  ] as const;
  const found = await replayed(new Map(texts));
  expect(found.get(name)).toBeInstanceOf(DeterminismViolationError);
  expect(found.get(other)).toBeNull();
});
