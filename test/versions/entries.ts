/** Version entries with plausible content for tests; what matters to a test it sets itself. */
import type { BlobReference } from '../../schemas/editing.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';

const HASH = 'ab'.repeat(32);
const SCORES = {
  efficacy: 1,
  efficacyGreedy: 1,
  generalisation: 1,
  locality: 1,
  retention: null,
  canaryRatio: 1,
  editNorm: 0.1,
};

export function addedCorrection(
  id: string,
  more: Partial<VersionEntry['added'][number]> = {},
): VersionEntry['added'][number] {
  return {
    correctionId: id,
    factKey: `${id}|{} is in`,
    row: 0,
    subject: id,
    relation: null,
    prompt: `${id} is in`,
    target: 'Lyon',
    previousAnswer: null,
    paraphrases: [],
    neighbourhood: [],
    source: 'test',
    issuedAt: 1_000,
    position: { topic: 'errata.l.corrections', partition: 0, offset: '0' },
    ...more,
  };
}

export function versionEntry(
  version: number,
  parent: string | null,
  more: Partial<VersionEntry> = {},
): VersionEntry {
  return {
    format: 1,
    lineage: 'l',
    version,
    parent,
    createdAt: '2026-01-01T00:00:00.000Z',
    batchId: `batch-${version}`,
    added: [],
    removed: [],
    retractions: [],
    searches: [],
    pairs: { sha256: HASH, bytes: 1 },
    corrections: 0,
    layers: [],
    probes: { before: SCORES, after: SCORES, details: { sha256: HASH, bytes: 1 } },
    base: { name: 'tiny', sha256: HASH, architecture: 'llama' },
    keyStatistics: { sha256: HASH, tokens: 1, source: 'test' },
    parameters: {},
    workflow: { workflowId: 'w', runId: 'r' },
    software: { errata: '0', tensorflow: '0', node: '0', device: 'cpu' },
    ...more,
  };
}

/**
 * Appends an entry that adds and removes the corrections named, with counts, rows and parent as
 * they must be.
 */
export async function appendChange(
  log: VersionLog,
  change: {
    add?: VersionEntry['added'];
    remove?: VersionEntry['removed'];
    retractions?: VersionEntry['retractions'];
    pairs?: BlobReference;
    batchId?: string;
    undo?: VersionEntry['undo'];
  },
): Promise<number> {
  const history = await log.read();
  const version = history.head.version + 1;
  const added = (change.add ?? []).map((correction, row) => ({ ...correction, row }));
  const removed = change.remove ?? [];
  const result = await log.append(
    versionEntry(version, history.head.hash, {
      lineage: log.lineage,
      batchId: change.batchId ?? `batch-${version}`,
      added,
      removed,
      retractions: change.retractions ?? [],
      pairs: added.length === 0 ? null : (change.pairs ?? { sha256: HASH, bytes: 1 }),
      ...(change.undo === undefined ? {} : { undo: change.undo }),
      corrections: history.active.size + added.length - removed.length,
    }),
  );
  if (result.kind !== 'appended') throw new Error('another writer was first');
  return version;
}
