/** Runs `errata rebuild` and `errata compare` as processes, killed midway and continued. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { homeFromEnvironment, PROJECT_ROOT } from '../../infra/config/home.ts';
import { RebuildEngines } from '../../operations/rebuild/rebuild-engines.ts';
import { LocalEngine } from '../../model/engine/local-engine.ts';
import { versionsInFolder } from '../../versions/versions.ts';
import { blobName, entryName } from '../../versions/log/object-names.ts';
import { PARAMETERS, SOURCE, makeSource } from '../operations/rebuild/source-lineage.ts';
import { ADDON, tinyPath, tinyText } from '../harness/tiny-model.ts';
import { testFolder } from '../harness/clean-up.ts';
import { invoke } from '../harness/invocation.ts';

const folder = testFolder();
const home = join(folder, 'home');
const versionsFolder = join(folder, 'versions');
const text = join(folder, 'text');
const environment: NodeJS.ProcessEnv = {
  ERRATA_HOME: home,
  ERRATA_VERSIONS: versionsFolder,
  ERRATA_LINEAGES: SOURCE,
  ERRATA_MODEL: tinyPath('llama'),
  ERRATA_KEY_STATISTICS_TEXT: text,
  ERRATA_HYPER_PARAMETERS: JSON.stringify(PARAMETERS),
  ERRATA_REQUIRE_EFFECTIVE: 'false',
  ERRATA_GENERALISATION_MIN: '0',
  ERRATA_LOCALITY_MIN: '0',
  ERRATA_RETENTION_MIN: '0',
  ERRATA_CANARY_RATIO_MAX: '100',
  ERRATA_EDIT_NORM_MAX: '1000',
};
const versions = () => versionsInFolder(versionsFolder);
const errata = (args: string | string[]) => invoke(folder, args, environment);

beforeAll(async () => {
  for (const made of [home, versionsFolder]) mkdirSync(made);
  symlinkSync(join(homeFromEnvironment().root, 'tensorflow'), join(home, 'tensorflow'));
  writeFileSync(text, tinyText(9_000, 3));
  const places = new RebuildEngines(
    () =>
      LocalEngine.open({
        addonPath: ADDON,
        modelPath: tinyPath('llama'),
        statisticsFolder: join(home, 'key-statistics'),
        textFile: text,
        parameters: PARAMETERS,
      }),
    versions(),
  );
  await makeSource(await places.with(null), versions());
  await places.close();
});

test('a rebuild killed midway continues bit for bit', { timeout: 120_000 }, async () => {
  const dry = await errata('rebuild --as again --dry-run --json');
  expect([dry.code, JSON.parse(dry.out)]).toMatchObject([
    0,
    { dryRun: true, versions: 6, there: 0, undos: 1 },
  ]);

  const child = spawn(
    process.execPath,
    [join(PROJECT_ROOT, 'cli', 'errata.mjs'), 'rebuild', '--as', 'again'],
    { env: { ...process.env, ...environment }, stdio: 'ignore' },
  );
  const ended = once(child, 'exit');
  while (!existsSync(join(versionsFolder, entryName('again', 2)))) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  child.kill('SIGKILL');
  await ended;

  const rest = await errata('rebuild --as again --json');
  const rebuilt = JSON.parse(rest.out) as {
    began: number;
    done: number;
    reproduction: { reproduces: string };
  };
  expect(rest.code).toBe(0);
  expect(rebuilt.began).toBeGreaterThanOrEqual(2);
  expect(rebuilt).toMatchObject({ done: 6, reproduction: { reproduces: 'bit-for-bit' } });
  const compared = await errata('rebuild --as again --compare-only');
  expect([compared.code, compared.out]).toEqual([
    0,
    expect.stringContaining('reproduces bit for bit'),
  ]);
});

test('a fork is made and compared with its source', { timeout: 120_000 }, async () => {
  const fork = await errata([
    'rebuild',
    '--as',
    'fork',
    '--hyper-parameters',
    '{"layers": [1], "stepsMax": 3}',
    '--json',
  ]);
  expect(fork.code).toBe(0);
  const made = JSON.parse(fork.out) as {
    kind: string;
    comparison: { sides: { lineage: string; efficacyOfAll: number }[] };
  };
  expect(made).toMatchObject({
    kind: 'fork',
    comparison: { sides: [{ lineage: SOURCE }, { lineage: 'fork' }], onlyFirst: [] },
  });
  const { entry } = (await versions().log('fork').read()).latest!;
  expect(entry.parameters).toMatchObject({
    layers: [1],
    stepsMax: 3,
    contexts: PARAMETERS.contexts,
  });
  const compared = await errata(`compare ${SOURCE} fork --json`);
  const { comparison } = { comparison: JSON.parse(compared.out) as typeof made.comparison };
  expect(comparison.sides.map(({ efficacyOfAll }) => efficacyOfAll)).toEqual(
    made.comparison.sides.map(({ efficacyOfAll }) => efficacyOfAll),
  );
  expect((await errata(`compare ${SOURCE} fork`)).out).toContain('neighbours unchanged');
});

test('an impossible rebuild is refused with a remedy', { timeout: 120_000 }, async () => {
  const other = await invoke(folder, ['rebuild', '--as', 'x'], {
    ...environment,
    ERRATA_MODEL: tinyPath('gpt2'),
  });
  expect([other.code, other.err]).toEqual([1, expect.stringContaining('--model')]);
  expect((await errata(`rebuild --as ${SOURCE}`)).err).toContain('the one to be rebuilt');
  expect((await errata('rebuild --as x --from kafka')).code).toBe(3);
  expect((await errata('rebuild --as X!')).code).toBe(2);
  expect((await errata('rebuild --as x --lineage none')).err).toContain('--from kafka');

  // One blob of a search is changed: the log is damaged, but its sound part can still be rebuilt.
  const search = (await versions().log(SOURCE).entry(6)).entry.searches[0]!;
  const file = join(versionsFolder, blobName(SOURCE, search.sha256));
  const whole = readFileSync(file);
  rmSync(file);
  writeFileSync(file, Buffer.from(whole.toString().replace('river', 'piano')));
  const damaged = await errata('rebuild --as x');
  expect([damaged.code, damaged.err]).toEqual([1, expect.stringContaining('--anyway')]);
  const anyway = await errata('rebuild --as x --anyway --json');
  expect([anyway.code, JSON.parse(anyway.out)]).toMatchObject([
    1,
    { done: 5, stopped: { version: 6 }, reproduction: { identical: 5, reproduces: 'no' } },
  ]);
  expect((await errata('rebuild --as x --anyway --to 5')).code).toBe(0);
});
