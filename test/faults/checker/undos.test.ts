/** Plants one bug of each kind in a world with undos: the checker must find and name each. */
import { beforeAll, expect, test } from 'vitest';
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';
import type { UndoResult } from '../../../schemas/undo.ts';
import type { OrderedUndo } from '../undo-orders.ts';
import { check } from './checker.ts';
import { sha256 } from './evidence.ts';
import { changeOutcomes, entryName, entryOf, rewrite, violationsOf } from './planted-bugs.ts';
import { smallWorld } from './small-world.ts';
import type { World } from './world.ts';

let undone: World;
beforeAll(async () => {
  undone = await smallWorld({ undone: true });
});

test('a sound world with undos has no violations', () => {
  const findings = check(undone, DEFAULT_LINEAGE_SETTINGS.verdict);
  expect(findings.violations).toEqual([]);
  expect(undone.versions).toHaveLength(4);
  expect(findings.outcomes).toMatchObject({ committed: 2, retracted: 3 });
});

const aliasName = (number: number): string =>
  `lineages/l/aliases/${String(number).padStart(20, '0')}.json`;
test.each<[string, (world: World) => void, RegExp]>([
  [
    'a correction brought back with other texts',
    (world) => rewrite(world, 4, (entry) => void (entry.added[0]!.target = 'Rome')),
    /version 4: it brings a2 back with other texts than it had/,
  ],
  [
    'a correction brought back with the pairs of another',
    (world) => rewrite(world, 3, (entry) => ([entry.added[0]!.row, entry.added[1]!.row] = [1, 0])),
    /version 3: it brings a back with other pairs than it had/,
  ],
  [
    'a correction brought back that never existed',
    (world) => rewrite(world, 3, (entry) => void (entry.added[0]!.origin!.row = 2)),
    /version 3: it brings a back, which version 1 did not add in row 2/,
  ],
  [
    'an undo that removes as a batch does',
    (world) => rewrite(world, 3, (entry) => void (entry.removed[0]!.because = 'superseded')),
    /version 3: it is undo u2, and a2 was superseded by undo:u2/,
  ],
  [
    'a batch that reverts',
    (world) => rewrite(world, 2, (entry) => void (entry.removed[0]!.because = 'reverted')),
    /version 2: it reverts a, and is not an undo/,
  ],
  [
    'a batch that brings back',
    (world) => rewrite(world, 4, (entry) => void delete entry.undo),
    /version 4: it brings a2 back, and is not an undo/,
  ],
  [
    'an undone correction announced as active',
    (world) =>
      changeOutcomes(world, (outcome) =>
        outcome.revisionId === 'a' && outcome.version === 4 ? null : outcome,
      ),
    /\(a\) has outcomes COMMITTED 1, SUPERSEDED 2, COMMITTED 3; version 3 added it and version 4/,
  ],
  [
    'an alias record that is gone',
    (world) => void world.store.delete(aliasName(1)),
    /aliases\/0+2\.json is in the place of alias record 1/,
  ],
  [
    'a changed alias record',
    ({ store }) => {
      const text = store.get(aliasName(1))!.toString();
      store.set(aliasName(1), Buffer.from(text.replace('"version":2', '"version":1')));
    },
    /aliases\/0+1\.json does not match its seal/,
  ],
])('the checker finds %s', (_, plant, found) =>
  expect(violationsOf(plant, undone)).toContainEqual(expect.stringMatching(found)),
);

const ended = (id: string, version: number, of: World): OrderedUndo => {
  const { removed, added, undo } = entryOf(of, version);
  const hash = sha256(of.store.get(entryName(version))!);
  const counts = { removed: removed.length, restored: added.length };
  const made = { kind: 'undone', version, hash, ...counts } as const;
  const result = { ...made, kept: [], before: null, after: null };
  return { id, target: undo!.target, movedAlias: false, end: { kind: 'ended', result } };
};
let ordered: World;
beforeAll(async () => {
  ordered = await smallWorld({ undone: true, rolledBack: true });
  ordered.undos = ['u2', 'u3', 'u4'].map((id, i) => ended(id, 3 + i, ordered));
  ordered.undos[2]!.movedAlias = true;
  ordered.answers = { version: 5, texts: [] };
});
const lastAliasRecord = (world: World): string =>
  [...world.store.keys()]
    .filter((name) => name.includes('/aliases/'))
    .sort()
    .at(-1)!;

const NOTHING: UndoResult = { kind: 'nothing', reason: 'none', kept: [] };

test('a sound world with ordered undos has no violations', () =>
  expect(check(ordered, DEFAULT_LINEAGE_SETTINGS.verdict).violations).toEqual([]));

test.each<[string, (world: World) => void, RegExp]>([
  [
    'an undo that made two versions',
    (world) => rewrite(world, 4, (entry) => Object.assign(entry.undo!, { id: 'u2' })),
    /Undo: u2 made versions 3 and 4/,
  ],
  [
    'an undone correction that is still active',
    (world) => rewrite(world, 3, (entry) => void (entry.removed = [])),
    /version 3: it undoes version 2, which added a2, which is still active/,
  ],
  [
    'a rollback to something else',
    (world) => rewrite(world, 5, (entry) => void entry.added.pop()),
    /version 5: it goes back to version 1, where b was active, and is not/,
  ],
  [
    'an alias that was never released',
    (world) => void world.store.delete(lastAliasRecord(world)),
    /Undo: u4 was done and never released the alias/,
  ],
  [
    'an undo that never ended',
    (world) => void (world.undos[0]!.end = { kind: 'unknown' }),
    /Undo: u2 was ordered and did not end: unknown/,
  ],
  [
    'an undo reported as refused',
    (world) => void (world.undos[0]!.end = { kind: 'ended', result: NOTHING }),
    /Undo: u2 reports that it did nothing \(nothing\), and made version 3/,
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
    'an answer that is no longer due',
    (world) => world.answers!.texts.push({ prompt: 'Of Nobody', text: 'Lyon', base: 'Rome' }),
    /no correction is active for "Of Nobody", and the answer is "Lyon"/,
  ],
])('the checker finds %s', (_, plant, found) =>
  expect(violationsOf(plant, ordered)).toContainEqual(expect.stringMatching(found)),
);
