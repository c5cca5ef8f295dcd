/**
 * The operator's commands with nothing running: their effect on the version log, and their
 * refusals.
 */
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import { EXIT } from '../../cli/terminal/exit-code.ts';
import { versionsInFolder } from '../../versions/versions.ts';
import { correction, LINEAGE } from '../harness/corrections.ts';
import { runBatch } from '../harness/test-lineage.ts';
import { FakeEngine } from '../harness/fake-engine.ts';
import { testFolder } from '../harness/clean-up.ts';
import { invoke } from '../harness/invocation.ts';

let folder: string;
beforeEach(() => void (folder = testFolder()));

const errata = (args: string | string[]) => invoke(folder, args, { ERRATA_LINEAGES: LINEAGE });

/** Versions 1, 2, … of one correction each. */
async function committed(...ids: string[]) {
  const versions = versionsInFolder(join(folder, 'home', 'versions'));
  const activities = {
    ...createEditActivities({ engine: new FakeEngine(), versions }),
    ...createLedgerActivities({ versions }),
  };
  for (const id of ids)
    await (await runBatch(activities, `batch-${id}`, [correction(id)])).commit();
  return versions.log(LINEAGE);
}

test('a dry run shows what an undo would do, and changes nothing', async () => {
  const log = await committed('a', 'b');
  expect(await errata('revert 1 --dry-run')).toMatchObject({
    code: EXIT.ok,
    out: expect.stringMatching(/1 correction would go\s+a: Subject a → Lyon/) as string,
  });
  expect(JSON.parse((await errata('rollback --to 0 --dry-run --json')).out)).toMatchObject({
    head: { version: 2 },
    goes: [{ correctionId: 'a' }, { correctionId: 'b' }],
    comesBack: [],
  });
  expect(await errata('revert 7 --dry-run')).toMatchObject({
    code: EXIT.failure,
    out: expect.stringContaining('version 7 does not exist; HEAD is 2') as string,
  });
  expect(await errata('revert nobody --dry-run')).toMatchObject({
    code: EXIT.failure,
    out: expect.stringContaining('"nobody"') as string,
  });
  expect((await log.aliases()).records).toEqual([]);
});

test('a rollback moves the alias and names the command that finishes it', async () => {
  const log = await committed('a', 'b');
  const { code, out, err } = await errata([
    'rollback',
    '--to',
    '1',
    '--id',
    'back',
    '--by',
    'ada',
    '--reason',
    'bad feed',
  ]);
  expect(code).toBe(EXIT.failure);
  expect(out).toContain('Alias stable is on version 1');
  expect(err).toContain('Serving is safe on version 1');
  expect(err).toContain(`errata rollback --to 1 --lineage ${LINEAGE} --id back`);
  await errata('rollback --to 1 --id back --by ada');
  expect((await log.aliases()).records).toMatchObject([
    { alias: 'stable', version: 1, by: 'ada', reason: 'bad feed' },
  ]);
  expect((await errata('status')).out).toContain('stable is held on version 1: bad feed (ada)');
  expect(await errata('rollback --to 9')).toMatchObject({
    code: EXIT.failure,
    err: expect.stringContaining('version 9 does not exist') as string,
  });
});

test('aliases are listed and moved', async () => {
  await committed('a');
  expect((await errata('alias')).out).toContain('no aliases: HEAD is served');
  expect((await errata('alias canary 1')).out).toContain('Alias canary of');
  expect((await errata('alias canary base')).out).toContain('the base model');
  expect(JSON.parse((await errata('alias canary --json')).out)).toMatchObject({
    aliases: [{ version: 0 }, { version: 1 }],
  });
  expect((await errata('alias canary 7')).code).toBe(EXIT.failure);
  for (const args of [
    ['Ü', '1'],
    ['head', '1'],
    ['canary', 'seven'],
  ])
    expect((await errata(['alias', ...args])).code, args[0]).toBe(EXIT.usage);
});

test('commands that need a running lineage name the command that starts one', async () => {
  await committed('a');
  for (const args of [['freeze'], ['resume'], ['revert', '1']])
    expect(await errata(args), args[0]).toMatchObject({
      code: EXIT.notRunning,
      err: expect.stringContaining('errata up') as string,
    });
  for (const args of [
    ['revert', '0'],
    ['revert', '1', '--id', 'Ü'],
    ['rollback'],
    ['rollback', '--to', '-1'],
  ])
    expect((await errata(args)).code, args.join(' ')).toBe(EXIT.usage);
});
