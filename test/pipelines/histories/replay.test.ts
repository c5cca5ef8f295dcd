import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { DeterminismViolationError } from '@temporalio/workflow';
import { Worker, type WorkflowBundle } from '@temporalio/worker';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { bundleWorkflows } from '../../../pipelines/temporal/workflow-bundle.ts';
import { quietRuntime } from '../../harness/world.ts';

const folder = fileURLToPath(new URL('.', import.meta.url));
const releases = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => name).sort();
const names = releases.flatMap((release) => readdirSync(`${folder}${release}`).map((name) => `${release}/${name}`));
const textOf = (name: string): string => readFileSync(`${folder}${name}`, 'utf8');
const workflowIdIn = (text: string): string => text.match(/(lineage|edit-batch|undo)\/l\d+(\/\w+)?/)?.[0] ?? 'unknown';

let workflowBundle: WorkflowBundle;
beforeAll(async () => {
  quietRuntime();
  workflowBundle = await bundleWorkflows();
});

/**
 * What the replay of all these histories finds, by name: null where today's workflows would do the
 * same.
 */
async function replayed(texts: ReadonlyMap<string, string>): Promise<Map<string, Error | null>> {
  const found = new Map<string, Error | null>();
  const byRun = new Map([...texts].map(([name, text]) => [JSON.stringify([workflowIdIn(text), name]), { name, text }]));
  const histories = [...byRun].map(([workflowId, { text }]) => ({ workflowId, history: historyFromJSON(JSON.parse(text)) }));
  for await (const { workflowId, error } of Worker.runReplayHistories({ workflowBundle }, histories)) found.set(byRun.get(workflowId)!.name, error ?? null);
  return found;
}

describe('recorded histories', () => {
  it('are there for every release, the one of package.json included', () => {
    const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string };
    expect(releases).toEqual(expect.arrayContaining(['0.1.0', version]));
    for (const release of releases) expect(names.filter((name) => name.startsWith(`${release}/`)).length).toBeGreaterThanOrEqual(3);
  });

  it('are what the workflows of today would do', async () => {
    const found = await replayed(new Map(names.map((name) => [name, textOf(name)])));
    expect([...found.keys()].sort()).toEqual([...names].sort());
    expect([...found].filter(([, error]) => error !== null)).toEqual([]);
  });

  it.each([
    ['0.1.0/edit-batch-split.json', '"stageUpdate"', '"stageSomethingElse"'],
    ['0.1.0/lineage.json', '"editBatch"', '"editSomethingElse"'],
    ['0.2.0/undo-version.json', '"commitUndo"', '"commitSomethingElse"'],
    ['0.2.0/lineage-undo.json', '"undo"', '"redo"'],
    ['0.2.0/lineage-given-up.json', '"alert"', '"shout"'],
  ])('of %s with %s for %s are found out, and the others are not taken for it', async (name, from, to) => {
    const changed = textOf(name).replaceAll(`{"name":${from}}`, `{"name":${to}}`);
    expect(changed).not.toBe(textOf(name));
    const other = names.find((one) => one !== name)!;
    const found = await replayed(new Map([[name, changed], [other, textOf(other)]]));
    expect(found.get(name)).toBeInstanceOf(DeterminismViolationError);
    expect(found.get(other)).toBeNull();
  });
});
