import { describe, expect, it } from 'vitest';
import { VersionLogDamaged } from '../../../versions/log/failures.ts';
import {
  HISTORY_CHARACTERS_MAX,
  HistoryArchive,
  type ArchivedRun,
} from '../../../versions/audit/history-archive.ts';
import { namesUnder } from '../../../versions/stores/object-store.ts';
import { MemoryStore } from '../../harness/memory-store.ts';

const RUN: ArchivedRun = {
  workflowId: 'edit-batch/l/7',
  runId: '0198c1c5-7c2e-7d5b-9f0e-2c6d2f0a4b11',
  type: 'editBatch',
  status: 'COMPLETED',
  startedAt: 1_000,
  closedAt: 2_000,
  history: JSON.stringify({ events: [{ eventId: '1', text: 'Zürich '.repeat(1_000) }] }),
  omitted: null,
};

describe('the archive of histories', () => {
  it('gives back what was put, once, and in little room', async () => {
    const store = new MemoryStore();
    const archive = new HistoryArchive(store, 'l');
    expect(await archive.has(RUN)).toBe(false);
    expect(await archive.get(RUN)).toBeNull();
    expect(await archive.latest(RUN.workflowId)).toBeNull();
    expect(await archive.put(RUN)).toBe('stored');
    expect(await archive.put({ ...RUN, status: 'FAILED' })).toBe('exists');
    expect(await archive.has(RUN)).toBe(true);
    expect(await archive.get(RUN)).toEqual(RUN);
    const [name, ...others] = await namesUnder(store, '');
    expect(others).toEqual([]);
    expect(name).toMatch(/^lineages\/l\/histories\/([0-9a-f]{2})\/\1[0-9a-f]{62}\//);
    expect(name).toMatch(/\/0198c1c5-7c2e-7d5b-9f0e-2c6d2f0a4b11\.json$/);
    expect(name!.split('/')).toHaveLength(6);
    expect((await store.get(name!))!.byteLength).toBeLessThan(1_000);
  });

  it('knows the runs of a workflow and the latest of them', async () => {
    const archive = new HistoryArchive(new MemoryStore(), 'l');
    await Promise.all(
      [3_000, 1_000, 2_000].map((startedAt) =>
        archive.put({ ...RUN, runId: `run-${startedAt}`, startedAt }),
      ),
    );
    await archive.put({ ...RUN, workflowId: 'edit-batch/l/70', startedAt: 9_000 });
    expect((await archive.runIds(RUN.workflowId)).sort()).toEqual([
      'run-1000',
      'run-2000',
      'run-3000',
    ]);
    expect((await archive.latest(RUN.workflowId))?.runId).toBe('run-3000');
  });

  it('keeps a run without its history if the history is too large', async () => {
    const archive = new HistoryArchive(new MemoryStore(), 'l');
    await archive.put({ ...RUN, history: 'x'.repeat(HISTORY_CHARACTERS_MAX + 1) });
    expect(await archive.get(RUN)).toMatchObject({
      status: 'COMPLETED',
      history: null,
      omitted:
        `its history has ${HISTORY_CHARACTERS_MAX + 1} characters, ` +
        `at most ${HISTORY_CHARACTERS_MAX} are kept`,
    });
  });

  it('reports every changed byte, and a run in the place of another', async () => {
    const store = new MemoryStore();
    const archive = new HistoryArchive(store, 'l');
    await archive.put({ ...RUN, history: '{}' });
    const [name] = await namesUnder(store, '');
    const bytes = (await store.get(name!))!;
    for (let at = 0; at < bytes.byteLength; at++) {
      const changed = Uint8Array.from(bytes);
      changed[at]! ^= 1;
      await store.delete(name!);
      await store.putIfAbsent(name!, changed);
      await expect(archive.get(RUN)).rejects.toThrow(VersionLogDamaged);
    }
    const other = { ...RUN, runId: 'another' };
    await store.putIfAbsent(name!.replace(RUN.runId, other.runId), bytes);
    await expect(archive.get(other)).rejects.toThrow(`it is run ${RUN.runId} of edit-batch/l/7`);
  });
});
