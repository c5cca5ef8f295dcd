import { describe, expect, it } from 'vitest';
import { announceActivities } from '../../activities/announce.ts';
import { Versions } from '../../versions/versions.ts';
import { addedCorrection, appendChange } from '../versions/entries.ts';
import { MemoryStore } from '../harness/memory-store.ts';

const position = (offset: number) => ({
  topic: 'errata.l.corrections',
  partition: 0,
  offset: String(offset),
});

function announcing() {
  const versions = new Versions(new MemoryStore());
  const told: string[] = [];
  let away = false;
  const tell = (words: string): void => {
    if (away) throw new Error('no leader');
    told.push(words);
  };
  const activities = announceActivities({
    versions,
    announcer: {
      announceVersion: async ({ version }) => tell(`version ${version}`),
      announceOutcomes: async (_, outcomes) =>
        outcomes.forEach(({ revisionId, status, version }) =>
          tell(`${revisionId} ${status} ${version}`),
        ),
    },
  });
  return { log: versions.log('l'), told, activities, setAway: (now: boolean) => (away = now) };
}

describe('an announcement', () => {
  // Regression: a reset lineage ends the running batch, and an interrupted one never announced its
  // version.
  it('first announces earlier versions that were decided but not announced', async () => {
    const { log, told, activities } = announcing();
    await appendChange(log, { add: [addedCorrection('a', { position: position(1) })] });
    await appendChange(log, {
      add: [addedCorrection('a2', { factKey: 'a|{} is in', position: position(2) })],
      remove: [{ correctionId: 'a', factKey: 'a|{} is in', because: 'superseded', by: 'a2' }],
    });
    await appendChange(log, { add: [addedCorrection('b', { position: position(3) })] });
    const committed = {
      lineage: 'l',
      revisionId: 'b',
      factKey: 'b|{} is in',
      status: 'COMMITTED',
      version: 3,
      reason: null,
      measured: {},
      position: position(3),
      batchId: 'batch-3',
      decidedAt: 1,
    } as const;
    await activities.announce({ lineage: 'l', outcomes: [committed], version: 3 });
    expect(told).toEqual([
      'version 1',
      'a SUPERSEDED 2',
      'version 2',
      'a2 COMMITTED 2',
      'a SUPERSEDED 2',
      'version 3',
      'b COMMITTED 3',
    ]);
    await activities.announce({ lineage: 'l', outcomes: [], version: 3 });
    expect(told).toHaveLength(7);
  });

  it('that fails midway is completed by the next one', async () => {
    const { log, told, activities, setAway } = announcing();
    await appendChange(log, { add: [addedCorrection('a', { position: position(1) })] });
    setAway(true);
    await expect(activities.announce({ lineage: 'l', outcomes: [], version: 1 })).rejects.toThrow(
      'no leader',
    );
    setAway(false);
    await activities.announce({ lineage: 'l', outcomes: [], version: null });
    expect(told).toEqual(['version 1', 'a COMMITTED 1']);
  });
});
