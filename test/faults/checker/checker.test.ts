/** Plants one bug of each kind in a sound world: the checker must find and name each. */
import { beforeAll, expect, test } from 'vitest';
import { recordCodec } from '../../../schemas/records/avro.ts';
import type { Outcome } from '../../../schemas/outcome.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';
import { check } from './checker.ts';
import {
  blobNameOf,
  changeDetails,
  changeOutcomes,
  entryName,
  outcomeCodec,
  rewrite,
  versionCodec,
  violationsOf,
} from './planted-bugs.ts';
import { smallWorld } from './small-world.ts';
import type { World } from './world.ts';

let sound: World;
beforeAll(async () => {
  sound = await smallWorld();
});

test('a sound world has no violations', () => {
  const findings = check(sound, DEFAULT_LINEAGE_SETTINGS.verdict);
  expect(findings.violations).toEqual([]);
  expect(findings.outcomes).toEqual({
    committed: 2,
    superseded: 1,
    retracted: 2,
    quarantined: 1,
    duplicate: 1,
    'dead letter': 1,
  });
});

/** Plants a change in the outcomes with these members; null removes them. */
const outcomesWhere =
  (members: Partial<Outcome>, change: Partial<Outcome> | null) =>
  (world: World): void =>
    changeOutcomes(world, (outcome) => {
      const isMeant = Object.entries(members).every(
        ([name, value]) => outcome[name as keyof Outcome] === value,
      );
      if (!isMeant) return outcome;
      return change === null ? null : { ...outcome, ...change };
    });
const outcomeOf = ({ outcomes }: World, id: string) =>
  outcomes.find(({ value }) => outcomeCodec.decode(value!).revisionId === id)!;
const cut = ({ store }: World, name: string, bytes: number) =>
  void store.set(name, store.get(name)!.subarray(0, bytes));

const planted: Record<string, { plant: (world: World) => void; found: RegExp }> = {
  'a correction that two versions add': {
    plant: (world) =>
      rewrite(world, 2, (entry) => {
        entry.added[0]!.correctionId = 'a';
        Object.assign(entry, { removed: [], corrections: 4 });
      }),
    found: /version 2: it adds a, which version 1 added already/,
  },
  'a record of a repeated id that was applied as well': {
    plant: outcomesWhere({ status: 'DUPLICATE' }, { status: 'SUPERSEDED' }),
    found: /Doubled: 2 of the 2 records of c are not duplicates/,
  },
  'a record that was never decided, its offset committed': {
    plant: outcomesWhere({ revisionId: 'weak' }, null),
    found: /Lost: record 0-\d+ \(weak\) has no outcome, and no version has it/,
  },
  'a version that was never announced': {
    plant: (world) => void world.versions.pop(),
    found: /version 2 was never announced/,
  },
  'a version announced with another hash': {
    plant: ({ versions: [first] }) => {
      const announced = versionCodec.decode(first!.value!);
      first!.value = versionCodec.encode({ ...announced, hash: 'ab'.repeat(32) });
    },
    found: /version 1 was announced with hash abab/,
  },
  'a version that was announced and is missing': {
    plant: (world) => void world.store.delete(entryName(2)),
    found: /version 2 was announced and is not in the log/,
  },
  'a blob torn in half': {
    plant: (world) => cut(world, blobNameOf(world, 1), 100),
    found: /its blob [0-9a-f]{64} has 100 bytes instead of \d+/,
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
    found: /version 2: its parent is [0-9a-f]{64}, and the entry before it hashes to [0-9a-f]{64}/,
  },
  'an entry torn in half': {
    plant: (world) => cut(world, entryName(2), 400),
    found: /the entry of version 2 is not JSON/,
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
    found: /version 2 is missing, and 1 versions follow the gap/,
  },
  'a HEAD whose probes failed': {
    plant: (world) => rewrite(world, 2, (entry) => (entry.probes.after.canaryRatio = 9)),
    found: /version 2: its probes failed: canary ratio 9/,
  },
  'a HEAD whose corrections have no effect': {
    plant: (world) => changeDetails(world, 2, (details) => (details[0]!.effective = false)),
    found: /version 2: its probes failed: a2 not effective/,
  },
  'a HEAD whose probes are about something else': {
    plant: (world) => changeDetails(world, 2, (details) => (details[0]!.id = 'other')),
    found: /version 2: its probes are about other, and it adds a2/,
  },
  'pairs of another number of rows': {
    plant: (world) => rewrite(world, 1, (entry) => void entry.added.pop()),
    found: /version 1: its pairs have 3 rows of layers\.\d\.\w+ for 2 corrections/,
  },
  'a count that is wrong': {
    plant: (world) => rewrite(world, 2, (entry) => (entry.corrections = 9)),
    found: /version 2: it counts 9 corrections, and 2 are active/,
  },
  'a committed correction announced as quarantined': {
    plant: outcomesWhere(
      { revisionId: 'a2' },
      { status: 'QUARANTINED', version: null, reason: 'x' },
    ),
    found: /\(a2\) has outcomes QUARANTINED; version 2 added it and it is active/,
  },
  'a commit that was announced and never made': {
    plant: outcomesWhere({ revisionId: 'weak' }, { status: 'COMMITTED', version: 2 }),
    found: /\(weak\) has outcomes COMMITTED 2; no version added this record/,
  },
  'a correction announced as having come back': {
    plant: (world) => void world.outcomes.push(outcomeOf(world, 'a')),
    found: /\(a\) has outcomes COMMITTED 1, SUPERSEDED 2, COMMITTED 1/,
  },
  'two final outcomes': {
    plant: (world) => {
      const outcome = outcomeCodec.decode(outcomeOf(world, 'weak').value!);
      const value = outcomeCodec.encode({ ...outcome, status: 'SUPERSEDED' });
      world.outcomes.unshift({ ...world.outcomes[0]!, value });
    },
    found: /\(weak\) has outcomes SUPERSEDED, QUARANTINED, which contradict each other/,
  },
  'a quarantine without a reason': {
    plant: outcomesWhere({ status: 'QUARANTINED' }, { reason: null }),
    found: /\(weak\) was quarantined without a reason/,
  },
  'an older correction that is active': {
    plant: (world) => {
      const record = world.corrections.find(({ value }) => value !== null && value.includes('a2'))!;
      const codec = recordCodec('fact-correction');
      record.value = codec.encode({ ...codec.decode(record.value!), issuedAt: 500 });
      rewrite(world, 2, (entry) => (entry.added[0]!.issuedAt = 500));
    },
    found: /Order: for the fact "Subject a\|.*" a2 is active, and a \(superseded\) was issued last/,
  },
  'a dead letter that was lost': {
    plant: (world) => (world.deadLetters = []),
    found: /record 1-0 is invalid, and not in the dead-letter topic/,
  },
  'a dead letter with other bytes': {
    plant: (world) => (world.deadLetters[0]!.value = Buffer.from('rubbish')),
    found: /record 1-0 has other bytes there than it had/,
  },
  'a dead letter of a valid record': {
    plant: ({ deadLetters, corrections }) => {
      const { offset } = corrections[0]!;
      const place = { '__connect.errors.partition': '0', '__connect.errors.offset': offset };
      const [first] = deadLetters;
      deadLetters.push({ ...first!, headers: { ...first!.headers, ...place } });
    },
    found: /record 0-\d+ is among them, but valid/,
  },
  'an offset that is behind': {
    plant: (world) => (world.offsets[0]!.committed = '1'),
    found: /partition 0 ends at \d+, and the group's offset is 1/,
  },
  'an offset that is ahead': {
    plant: (world) => (world.offsets[1]!.committed = '5'),
    found: /partition 1 ends at 1, and the group's offset is 5/,
  },
  'a file that is not an object': {
    plant: (world) => void world.store.set('lineages/l/log/half', Buffer.from('x')),
    found: /holds lineages\/l\/log\/half, which is not an object/,
  },
};

test.each(Object.entries(planted))('the checker finds %s', (_, { plant, found }) => {
  const violations = violationsOf(plant, sound);
  expect(violations.join('\n')).toMatch(found);
});
