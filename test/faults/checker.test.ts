/**
 * Bugs planted in a sound world, one of each kind: the checker has to find each, and to call it by
 * its name.
 */
import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { canonicalJson } from '../../versions/log/canonical-json.ts';
import { recordCodec } from '../../schemas/records/avro.ts';
import type { Outcome } from '../../schemas/editing.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import { check } from './checker.ts';
import type { World } from './read-world.ts';
import { smallWorld } from './small-world.ts';
import type { OrderedUndo } from './undo-orders.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const outcomeCodec = recordCodec('correction-outcome');
const versionCodec = recordCodec('hook-version');

let sound: World;
let undone: World;
beforeAll(async () => {
  sound = await smallWorld();
  undone = await smallWorld({ undone: true });
});

/** The violations of the world with a bug in it. */
function violationsOf(plant: (world: World) => void, of = sound): string[] {
  const world = structuredClone(of);
  // A clone of a Buffer is a plain array of bytes.
  for (const topic of [world.corrections, world.deadLetters, world.outcomes, world.versions])
    for (const record of topic)
      Object.assign(record, {
        key: record.key && Buffer.from(record.key),
        value: record.value && Buffer.from(record.value),
      });
  for (const [name, bytes] of world.store) world.store.set(name, Buffer.from(bytes));
  plant(world);
  return check(world, DEFAULT_LINEAGE_SETTINGS.verdict).violations;
}

const entryName = (version: number): string =>
  `lineages/l/log/${String(version).padStart(20, '0')}.json`;
const entryOf = (world: World, version: number): VersionEntry =>
  JSON.parse(world.store.get(entryName(version))!.toString()) as VersionEntry;

/**
 * Changes an entry as a buggy writer would have written it: later ones follow it, and the topic
 * tells of it.
 */
function rewrite(world: World, version: number, change: (entry: VersionEntry) => void): void {
  let parent: string | null | undefined;
  for (let at = version; world.store.has(entryName(at)); at++) {
    const entry = entryOf(world, at);
    if (at === version) change(entry);
    if (parent !== undefined) entry.parent = parent;
    const bytes = Buffer.from(canonicalJson(entry));
    world.store.set(entryName(at), bytes);
    parent = sha256(bytes);
    for (const record of world.versions) {
      const told = versionCodec.decode(record.value!);
      if (told.version === at)
        record.value = versionCodec.encode({ ...told, hash: parent, parent: entry.parent });
    }
  }
}

function blobNameOf(world: World, version: number): string {
  const { sha256: hash } = entryOf(world, version).pairs!;
  return `lineages/l/blobs/${hash.slice(0, 2)}/${hash}`;
}

function changeOutcomes(world: World, change: (outcome: Outcome) => Outcome | null): void {
  world.outcomes = world.outcomes.flatMap((record) => {
    const outcome = change(outcomeCodec.decode(record.value!));
    return outcome === null ? [] : [{ ...record, value: outcomeCodec.encode(outcome) }];
  });
}

describe('the checker', () => {
  it('has nothing to say of a sound world', () => {
    const findings = check(sound, DEFAULT_LINEAGE_SETTINGS.verdict);
    expect(findings.violations).toEqual([]);
    expect(findings.fates).toEqual({
      committed: 2,
      superseded: 1,
      retracted: 2,
      quarantined: 1,
      duplicate: 1,
      'dead letter': 1,
    });
  });

  const planted: Record<string, { plant: (world: World) => void; found: RegExp }> = {
    'a correction that two versions add': {
      plant: (world) =>
        rewrite(
          world,
          2,
          (entry) =>
            void (
              (entry.added[0]!.correctionId = 'a'),
              (entry.removed = []),
              (entry.corrections = 4)
            ),
        ),
      found: /version 2: it adds a, which version 1 added already/,
    },
    'a record of a repeated id that was applied as well': {
      plant: (world) =>
        changeOutcomes(world, (outcome) =>
          outcome.status === 'DUPLICATE' ? { ...outcome, status: 'SUPERSEDED' } : outcome,
        ),
      found: /Doubled: of the 2 records of c, 2 are no duplicates/,
    },
    'a record that was never dealt with, its offset committed': {
      plant: (world) =>
        changeOutcomes(world, (outcome) => (outcome.revisionId === 'weak' ? null : outcome)),
      found: /Lost: record 0-\d+ \(weak\) has no outcome, and no version has it/,
    },
    'a version that was never told': {
      plant: (world) => void world.versions.pop(),
      found: /version 2 was never announced/,
    },
    'a version told with another hash': {
      plant: (world) =>
        (world.versions[0]!.value = versionCodec.encode({
          ...versionCodec.decode(world.versions[0]!.value!),
          hash: 'ab'.repeat(32),
        })),
      found: /version 1 was announced with hash abab/,
    },
    'a version that was told and is not there': {
      plant: (world) => void world.store.delete(entryName(2)),
      found: /version 2 was announced and is not in the log/,
    },
    'a blob torn in half': {
      plant: (world) =>
        world.store.set(
          blobNameOf(world, 1),
          world.store.get(blobNameOf(world, 1))!.subarray(0, 100),
        ),
      found: /its blob [0-9a-f]{64} has 100 bytes where \d+ are due/,
    },
    'a flipped bit in a blob': {
      plant: (world) => void (world.store.get(blobNameOf(world, 1))![300]! ^= 1),
      found: /holds bytes that hash to/,
    },
    'a blob that is gone': {
      plant: (world) => void world.store.delete(blobNameOf(world, 1)),
      found: /version 1: its blob [0-9a-f]{64} is not in the store/,
    },
    'a flipped bit in an entry': {
      plant: (world) => {
        const bytes = world.store.get(entryName(1))!;
        bytes[bytes.indexOf('"Lyon"') + 1]! ^= 1;
      },
      found:
        /version 2: its parent is [0-9a-f]{64}, and the entry before it hashes to [0-9a-f]{64}/,
    },
    'an entry torn in half': {
      plant: (world) =>
        void world.store.set(entryName(2), world.store.get(entryName(2))!.subarray(0, 400)),
      found: /the entry of version 2 is no JSON/,
    },
    'a wrong parent': {
      plant: (world) => rewrite(world, 2, (entry) => (entry.parent = 'cd'.repeat(32))),
      found: /version 2: its parent is cdcd/,
    },
    'a hole in the numbers': {
      plant: (world) => {
        world.store.set(entryName(3), world.store.get(entryName(2))!);
        world.store.delete(entryName(2));
      },
      found: /version 2 is missing, and 1 versions lie behind the gap/,
    },
    'a HEAD whose probes failed': {
      plant: (world) => rewrite(world, 2, (entry) => (entry.probes.after.canaryRatio = 9)),
      found: /version 2: its probes failed: canary ratio 9/,
    },
    'a HEAD whose corrections do not hold': {
      plant: (world) => detailsOf(world, 2, (details) => (details[0]!.effective = false)),
      found: /version 2: its probes failed: a2 not effective/,
    },
    'a HEAD that was probed for something else': {
      plant: (world) => detailsOf(world, 2, (details) => (details[0]!.id = 'other')),
      found: /version 2: its probes asked for other, and it adds a2/,
    },
    'pairs of another number of rows': {
      plant: (world) => rewrite(world, 1, (entry) => void entry.added.pop()),
      found: /version 1: its pairs have 3 rows of layers\.\d\.\w+ for 2 corrections/,
    },
    'a count that is wrong': {
      plant: (world) => rewrite(world, 2, (entry) => (entry.corrections = 9)),
      found: /version 2: it counts 9 corrections, and 2 hold/,
    },
    'a committed correction that was told to be quarantined': {
      plant: (world) =>
        changeOutcomes(world, (outcome) =>
          outcome.revisionId === 'a2'
            ? { ...outcome, status: 'QUARANTINED', version: null, reason: 'x' }
            : outcome,
        ),
      found: /\(a2\) was told to be QUARANTINED; version 2 added it and it holds/,
    },
    'a commit that was told and never made': {
      plant: (world) =>
        changeOutcomes(world, (outcome) =>
          outcome.revisionId === 'weak' ? { ...outcome, status: 'COMMITTED', version: 2 } : outcome,
        ),
      found: /\(weak\) was told to be COMMITTED 2; no version added this record/,
    },
    'a correction that was told to have come back': {
      plant: (world) =>
        void world.outcomes.push(
          world.outcomes.find(({ value }) => outcomeCodec.decode(value!).revisionId === 'a')!,
        ),
      found: /\(a\) was told to be COMMITTED 1, SUPERSEDED 2, COMMITTED 1/,
    },
    'two final outcomes': {
      plant: (world) => {
        const outcome = outcomeCodec.decode(
          world.outcomes.find(({ value }) => outcomeCodec.decode(value!).revisionId === 'weak')!
            .value!,
        );
        world.outcomes.unshift({
          ...world.outcomes[0]!,
          value: outcomeCodec.encode({ ...outcome, status: 'SUPERSEDED' }),
        });
      },
      found: /\(weak\) was told to be SUPERSEDED, QUARANTINED, which contradict each other/,
    },
    'a quarantine without a reason': {
      plant: (world) =>
        changeOutcomes(world, (outcome) =>
          outcome.status === 'QUARANTINED' ? { ...outcome, reason: null } : outcome,
        ),
      found: /\(weak\) was quarantined without a reason/,
    },
    'an older correction that holds': {
      plant: (world) => {
        const record = world.corrections.find(
          ({ value }) => value !== null && value.includes('a2'),
        )!;
        record.value = recordCodec('fact-correction').encode({
          ...recordCodec('fact-correction').decode(record.value!),
          issuedAt: 500,
        });
        rewrite(world, 2, (entry) => (entry.added[0]!.issuedAt = 500));
      },
      found: /Order: of the fact "Subject a\|.*" a2 holds, and a \(superseded\) was issued last/,
    },
    'a dead letter that was lost': {
      plant: (world) => (world.deadLetters = []),
      found: /record 1-0 cannot be taken and is not in the dead-letter topic/,
    },
    'a dead letter with other bytes': {
      plant: (world) => (world.deadLetters[0]!.value = Buffer.from('rubbish')),
      found: /record 1-0 is there with other bytes than it had/,
    },
    'a dead letter that could have been taken': {
      plant: (world) =>
        void world.deadLetters.push({
          ...world.deadLetters[0]!,
          headers: {
            ...world.deadLetters[0]!.headers,
            '__connect.errors.partition': '0',
            '__connect.errors.offset': world.corrections[0]!.offset,
          },
        }),
      found: /record 0-\d+ is there, though it can be taken/,
    },
    'an offset that is behind': {
      plant: (world) => (world.offsets[0]!.committed = '1'),
      found: /partition 0 ends at \d+, and the group's offset is 1/,
    },
    'an offset that is ahead': {
      plant: (world) => (world.offsets[1]!.committed = '5'),
      found: /partition 1 ends at 1, and the group's offset is 5/,
    },
    'a file that is no object': {
      plant: (world) => void world.store.set('lineages/l/log/half', Buffer.from('x')),
      found: /holds lineages\/l\/log\/half, which is no object/,
    },
  };

  it.each(Object.entries(planted))('finds %s', (_, { plant, found }) => {
    const violations = violationsOf(plant);
    expect(violations.join('\n')).toMatch(found);
  });
});

/** Changes what the probes found, as if it had been found so. */
function detailsOf(
  world: World,
  version: number,
  change: (details: { id: string; effective: boolean }[]) => void,
): void {
  const { sha256: hash } = entryOf(world, version).probes.details;
  const details = JSON.parse(
    world.store.get(`lineages/l/blobs/${hash.slice(0, 2)}/${hash}`)!.toString(),
  ) as { id: string; effective: boolean }[];
  change(details);
  const bytes = Buffer.from(canonicalJson(details));
  const now = { sha256: sha256(bytes), bytes: bytes.length };
  world.store.set(`lineages/l/blobs/${now.sha256.slice(0, 2)}/${now.sha256}`, bytes);
  rewrite(world, version, (entry) => (entry.probes.details = now));
}

describe('the checker, where something was undone', () => {
  it('has nothing to say of a sound world', () => {
    const findings = check(undone, DEFAULT_LINEAGE_SETTINGS.verdict);
    expect(findings.violations).toEqual([]);
    expect(undone.versions).toHaveLength(4);
    expect(findings.fates).toMatchObject({ committed: 2, retracted: 3 });
  });

  const aliasName = (number: number): string =>
    `lineages/l/aliases/${String(number).padStart(20, '0')}.json`;
  it.each<[string, (world: World) => void, RegExp]>([
    [
      'a correction brought back with other words',
      (world) => rewrite(world, 4, (entry) => void (entry.added[0]!.target = 'Rome')),
      /version 4: it brings a2 back with other words than it had/,
    ],
    [
      'a correction brought back with the pairs of another',
      (world) =>
        rewrite(world, 3, (entry) => ([entry.added[0]!.row, entry.added[1]!.row] = [1, 0])),
      /version 3: it brings a back with other pairs than it had/,
    ],
    [
      'a correction brought back that was never there',
      (world) => rewrite(world, 3, (entry) => void (entry.added[0]!.origin!.row = 2)),
      /version 3: it brings a back, which version 1 did not add in row 2/,
    ],
    [
      'an undo that takes out as a batch does',
      (world) => rewrite(world, 3, (entry) => void (entry.removed[0]!.because = 'superseded')),
      /version 3: it is undo u2, and a2 was superseded by undo:u2/,
    ],
    [
      'a batch that reverts',
      (world) => rewrite(world, 2, (entry) => void (entry.removed[0]!.because = 'reverted')),
      /version 2: it reverts a, and is no undo/,
    ],
    [
      'a batch that brings back',
      (world) => rewrite(world, 4, (entry) => void delete entry.undo),
      /version 4: it brings a2 back, and is no undo/,
    ],
    [
      'what was undone told as if it held',
      (world) =>
        changeOutcomes(world, (outcome) =>
          outcome.revisionId === 'a' && outcome.version === 4 ? null : outcome,
        ),
      /\(a\) was told to be COMMITTED 1, SUPERSEDED 2, COMMITTED 3; version 3 added it and version 4 removed it/,
    ],
    [
      'a word on an alias that is gone',
      (world) => void world.store.delete(aliasName(1)),
      /aliases\/0+2\.json stands where word 1 on the aliases is due/,
    ],
    [
      'a changed word on an alias',
      (world) =>
        world.store.set(
          aliasName(1),
          Buffer.from(
            world.store.get(aliasName(1))!.toString().replace('"version":2', '"version":1'),
          ),
        ),
      /aliases\/0+1\.json is not what it was sealed as/,
    ],
  ])('finds %s', (_, plant, found) =>
    expect(violationsOf(plant, undone)).toContainEqual(expect.stringMatching(found)),
  );
});

describe('the checker, where an operator ordered undos', () => {
  const undone = (id: string, version: number, of: World): OrderedUndo => {
    const { removed, added, undo } = entryOf(of, version);
    const hash = sha256(of.store.get(entryName(version))!);
    return {
      id,
      target: undo!.target,
      movedAlias: false,
      end: {
        kind: 'ended',
        result: {
          kind: 'undone',
          version,
          hash,
          removed: removed.length,
          restored: added.length,
          kept: [],
          before: null,
          after: null,
        },
      },
    };
  };
  let ordered: World;
  beforeAll(async () => {
    ordered = await smallWorld({ undone: true, rolledBack: true });
    ordered.undos = ['u2', 'u3', 'u4'].map((id, i) => undone(id, 3 + i, ordered));
    ordered.undos[2]!.movedAlias = true;
    ordered.answers = { version: 5, texts: [] };
  });
  const lastWord = (world: World): string =>
    [...world.store.keys()]
      .filter((name) => name.includes('/aliases/'))
      .sort()
      .at(-1)!;

  it('has nothing to say of a sound world', () =>
    expect(check(ordered, DEFAULT_LINEAGE_SETTINGS.verdict).violations).toEqual([]));

  it.each<[string, (world: World) => void, RegExp]>([
    [
      'an undo that made two versions',
      (world) => rewrite(world, 4, (entry) => Object.assign(entry.undo!, { id: 'u2' })),
      /Undo: u2 made versions 3 and 4/,
    ],
    [
      'an undone correction that still holds',
      (world) => rewrite(world, 3, (entry) => void (entry.removed = [])),
      /version 3: it undoes version 2, and a2, which that version added, still holds/,
    ],
    [
      'a rollback to something else',
      (world) => rewrite(world, 5, (entry) => void entry.added.pop()),
      /version 5: it goes back to version 1, in which b held, and it does not/,
    ],
    [
      'an alias that was never let go',
      (world) => void world.store.delete(lastWord(world)),
      /Undo: u4 was done and never let the alias go/,
    ],
    [
      'an undo that never ended',
      (world) => void (world.undos[0]!.end = { kind: 'unknown' }),
      /Undo: u2 was ordered and did not end: unknown/,
    ],
    [
      'an undo that was told to be refused',
      (world) =>
        void (world.undos[0]!.end = {
          kind: 'ended',
          result: { kind: 'nothing', reason: 'none', kept: [] },
        }),
      /Undo: u2 is said to have undone nothing \(nothing\), and made version 3/,
    ],
    [
      'a version of an undo that nobody ordered',
      (world) => void world.undos.shift(),
      /version 3 is of undo u2, which nobody ordered/,
    ],
    [
      'answers that do not follow HEAD',
      (world) => void (world.answers!.version = 1),
      /serve answers out of version 1, and HEAD is 5/,
    ],
    [
      'an answer that holds no more',
      (world) => world.answers!.texts.push({ prompt: 'Of Nobody', text: 'Lyon', base: 'Rome' }),
      /nothing about "Of Nobody" holds, and it is answered with "Lyon"/,
    ],
  ])('finds %s', (_, plant, found) =>
    expect(violationsOf(plant, ordered)).toContainEqual(expect.stringMatching(found)),
  );
});
