import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { DeterminismViolationError } from '@temporalio/workflow';
import { Worker, type WorkflowBundle } from '@temporalio/worker';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { bundleWorkflows } from '../../../pipelines/workflow-bundle.ts';
import { quietRuntime } from '../world.ts';

const folder = fileURLToPath(new URL('.', import.meta.url));
const names = readdirSync(folder).filter((name) => name.endsWith('.json'));
const textOf = (name: string): string => readFileSync(`${folder}${name}`, 'utf8');

let workflowBundle: WorkflowBundle;
beforeAll(async () => {
  quietRuntime();
  workflowBundle = await bundleWorkflows();
});

describe('recorded histories', () => {
  it('are there', () => {
    expect(names.length).toBeGreaterThanOrEqual(3);
  });

  it.each(names)('%s is what the workflows of today would do', async (name) => {
    await Worker.runReplayHistory({ workflowBundle }, historyFromJSON(JSON.parse(textOf(name))), JSON.stringify(JSON.parse(textOf(name))).match(/(lineage|edit-batch)\/l\d+(\/\d+)?/)?.[0] ?? name);
  });

  it('that say otherwise are found out', async () => {
    const changed = textOf('edit-batch-split.json').replaceAll('"stageUpdate"', '"stageSomethingElse"');
    await expect(Worker.runReplayHistory({ workflowBundle }, historyFromJSON(JSON.parse(changed)))).rejects.toBeInstanceOf(DeterminismViolationError);
  });
});
