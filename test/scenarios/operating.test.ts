/**
 * The four processes with a real (tiny) model, a real broker and a real Temporal, operated by the
 * command line: a version is taken back, a rollback serves the earlier version at once though
 * nobody works, and both go on after kill -9. What was done is found in Temporal by its search
 * attributes.
 */
import { mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../../infra/local/server-process.ts';
import { homeFromEnvironment } from '../../infra/config/home.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { versionsInFolder } from '../../versions/versions.ts';
import { invoke, type Invocation } from '../cli/invocation.ts';
import { goldenPath } from '../golden/read-golden.ts';
import { startTestServers, type TestServers } from '../harness/servers/local.ts';
import { OurProcess } from '../harness/our-process.ts';
import { quietRuntime } from '../harness/world.ts';

const LINEAGE = 'operated';
const PROMPTS = ['the old town is on', 'we saw the hill near'] as const;
const NAMES = ['ingest', 'workflow-worker', 'edit-worker', 'serve'] as const;

let servers: TestServers;
let temporal: TemporalLineages;
let environment: NodeJS.ProcessEnv;
let processes: Record<(typeof NAMES)[number], OurProcess>;
let url: string;

beforeAll(async () => {
  quietRuntime();
  servers = await startTestServers();
  mkdirSync(path.join(servers.folder, 'versions'));
  // The data folder is the test's own; only the built TensorFlow is borrowed.
  symlinkSync(
    path.join(homeFromEnvironment().root, 'tensorflow'),
    path.join(servers.folder, 'tensorflow'),
  );
  temporal = TemporalLineages.connect(
    { address: servers.temporal.address },
    servers.temporal.namespace,
  );
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  environment = {
    ERRATA_HOME: servers.folder,
    ERRATA_VERSIONS: path.join(servers.folder, 'versions'),
    ERRATA_LINEAGES: LINEAGE,
    ERRATA_MODEL: goldenPath('tiny', 'llama'),
    ERRATA_HYPER_PARAMETERS: JSON.stringify({
      stepsMax: 150,
      lossTarget: 0.01,
      contexts: 2,
      contextsPerStep: 2,
      learningRate: 0.1,
    }),
    ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
    ERRATA_TEMPORAL_ADDRESS: servers.temporal.address,
    ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
    ERRATA_PORT: String(port),
    ERRATA_BATCH_EDITS_MAX: '1',
    // A model of random numbers learns what it is told, but with no manners.
    ERRATA_REQUIRE_EFFECTIVE: 'false',
    ERRATA_GENERALISATION_MIN: '0',
    ERRATA_LOCALITY_MIN: '0',
    ERRATA_RETENTION_MIN: '0',
    ERRATA_CANARY_RATIO_MAX: '100',
    ERRATA_EDIT_NORM_MAX: '1000',
  };
  const started = (name: (typeof NAMES)[number]) =>
    new OurProcess(name, { ...process.env, ...environment }, servers.folder);
  processes = {
    ingest: started('ingest'),
    'workflow-worker': started('workflow-worker'),
    'edit-worker': started('edit-worker'),
    serve: started('serve'),
  };
  // One takes the key statistics, the others read them.
  await processes['edit-worker'].start();
  await Promise.all(
    NAMES.filter((name) => name !== 'edit-worker').map((name) => processes[name].start()),
  );
});

afterAll(async () => {
  await Promise.allSettled(Object.values(processes ?? {}).map((one) => one.kill()));
  await temporal?.close();
  await servers?.stop();
});

const errata = (...args: string[]): Promise<Invocation> =>
  invoke(servers.folder, args, environment);
const log = () => versionsInFolder(path.join(servers.folder, 'versions')).log(LINEAGE);
const holds = async (): Promise<string[]> => [...(await log().read()).active.keys()].sort();

async function asked<T>(route: string, body?: object): Promise<T> {
  const response = await fetch(
    `${url}${route}`,
    body === undefined
      ? {}
      : {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        },
  );
  return (await response.json()) as T;
}

async function answer(model: string, prompt: string): Promise<string> {
  return (
    await asked<{ choices: { text: string }[] }>('/v1/completions', {
      model,
      prompt,
      max_tokens: 6,
      temperature: 0,
    })
  ).choices[0]!.text;
}

const served = async (): Promise<number | null> =>
  (await asked<{ lineages: { version: number | null }[] }>('/v1/lineages')).lineages[0]!.version;

/** Asks until it holds; the test's own bound ends it otherwise. */
async function untilTrue(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 50));
}

async function found(query: string): Promise<string[]> {
  const ids: string[] = [];
  for await (const { workflowId } of temporal.client.workflow.list({ query })) ids.push(workflowId);
  return ids.sort();
}

describe('a lineage that is operated', { timeout: 120_000 }, () => {
  it('is corrected, and a version of it reverted by the command line: the base answers are back, the others as they were', async () => {
    for (const [i, prompt] of PROMPTS.entries()) {
      const { code, err } = await errata(
        'submit',
        '--id',
        `c${i + 1}`,
        '--subject',
        i === 0 ? 'town' : 'hill',
        '--prompt',
        prompt,
        '--target',
        'river',
        '--wait',
      );
      expect(code, err).toBe(0);
    }
    await untilTrue(async () => (await served()) === 2);
    const base = await Promise.all(PROMPTS.map((prompt) => answer(`${LINEAGE}@base`, prompt)));
    const edited = await Promise.all(PROMPTS.map((prompt) => answer(LINEAGE, prompt)));
    for (const [i, text] of edited.entries()) expect(text).not.toBe(base[i]);

    const planned = await errata('revert', '1', '--dry-run', '--json');
    expect(JSON.parse(planned.out)).toMatchObject({
      head: { version: 2 },
      goes: [{ correctionId: 'c1' }],
      comesBack: [],
      nothing: null,
    });
    const reverted = await errata(
      'revert',
      '1',
      '--reason',
      'the source was wrong',
      '--by',
      'ada',
      '--json',
    );
    expect(reverted.code, reverted.err).toBe(0);
    expect(JSON.parse(reverted.out)).toMatchObject({
      kind: 'undone',
      version: 3,
      removed: 1,
      restored: 0,
      before: { editNorm: expect.any(Number) as number },
      after: { editNorm: expect.any(Number) as number },
    });
    await untilTrue(async () => (await served()) === 3);
    expect(await answer(LINEAGE, PROMPTS[0])).toBe(base[0]);
    expect(await answer(LINEAGE, PROMPTS[1])).toBe(edited[1]);
    expect((await log().entry(3)).entry).toMatchObject({
      undo: { reason: 'the source was wrong', requestedBy: 'ada' },
    });

    const again = await errata('revert', '1');
    expect(again).toMatchObject({
      code: 1,
      out: expect.stringContaining('Nothing to undo') as string,
    });
    expect((await errata('status')).out).toContain(
      'revert of version 1 (asked by ada): done in version 3',
    );
  });

  it('is found in Temporal by correction, outcome, version and lineage', async () => {
    await untilTrue(
      async () => (await found('ErrataVersion = 3 AND WorkflowType = "undo"')).length > 0,
    );
    expect(await found('ErrataCorrections = "c2"')).toEqual([`edit-batch/${LINEAGE}/1`]);
    expect(await found('ErrataOutcomes = "COMMITTED" AND ErrataVersion = 1')).toEqual([
      `edit-batch/${LINEAGE}/0`,
    ]);
    await untilTrue(
      async () =>
        (await found(`ErrataLineage = "${LINEAGE}" AND WorkflowType = "lineage"`)).length === 1,
    );
    const batch = await temporal.client.workflow.getHandle(`edit-batch/${LINEAGE}/0`).describe();
    expect(batch.memo).toMatchObject({ revisions: 1, versions: [1], outcomes: { COMMITTED: 1 } });
    expect(await batch.staticSummary()).toMatch(/^Batch 000000-.* of operated: 1 revisions$/);
  });

  it('finishes a revert although the workers are killed while it is under way', async () => {
    await processes['edit-worker'].kill();
    const reverting = errata('revert', 'c2', '--id', 'killed', '--json');
    await untilTrue(
      async () => (await temporal.undoProgress(LINEAGE, 'killed')).kind === 'running',
    );
    await processes['workflow-worker'].kill();
    await Promise.all([processes['workflow-worker'].start(), processes['edit-worker'].start()]);
    const { code, out, err } = await reverting;
    expect(code, err).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ id: 'killed', kind: 'undone', version: 4 });
    expect(await holds()).toEqual([]);
    // Asked for again it is the same undo.
    expect(
      JSON.parse((await errata('revert', 'c2', '--id', 'killed', '--json')).out),
    ).toMatchObject({ kind: 'undone', version: 4 });
    expect((await log().read()).head.version).toBe(4);
  });

  it('is rolled back while nobody works: the version answers at once, and the rest is done when they come back', async () => {
    await Promise.all([processes['workflow-worker'].kill(), processes['edit-worker'].kill()]);
    const edited = await answer(`${LINEAGE}@2`, PROMPTS[0]);
    const { code, err } = await errata('rollback', '--to', '2', '--id', 'back', '--timeout', '1');
    expect(code).toBe(1);
    expect(err).toContain('Serving is safe on version 2');
    expect(err).toContain(`errata rollback --to 2 --lineage ${LINEAGE} --id back`);
    await untilTrue(async () => (await served()) === 2);
    expect(await answer(LINEAGE, PROMPTS[0])).toBe(edited);
    expect((await errata('status')).out).toContain('stable is held on version 2');

    await Promise.all([processes['workflow-worker'].start(), processes['edit-worker'].start()]);
    const finished = await errata('rollback', '--to', '2', '--id', 'back');
    expect(finished.code, finished.err).toBe(0);
    expect(finished.out).toContain('follows HEAD again');
    expect(await holds()).toEqual(['c1', 'c2']);
    await untilTrue(async () => (await served()) === 5);
    expect(await answer(LINEAGE, PROMPTS[0])).toBe(edited);
  });

  it('is frozen and resumed, and rolled back over HTTP', async () => {
    expect((await errata('freeze', '--reason', 'looking at it', '--by', 'ada')).code).toBe(0);
    await untilTrue(async () => (await errata('status')).out.includes('looking at it (ada)'));
    const { id } = await asked<{ id: string }>(`/v1/lineages/${LINEAGE}/rollback`, {
      to: 0,
      reason: 'all of it',
    });
    await untilTrue(
      async () =>
        (await asked<{ state: string }>(`/v1/lineages/${LINEAGE}/undos/${id}`)).state === 'ended',
    );
    expect(await asked(`/v1/lineages/${LINEAGE}/undos/${id}`)).toMatchObject({
      result: { kind: 'undone', version: 6, removed: 2 },
    });
    expect(await holds()).toEqual([]);
    expect((await errata('resume')).code).toBe(0);
    await untilTrue(async () => !(await errata('status')).out.includes('looking at it'));
  });

  it('is rolled back in the log although Temporal is away, with the command that finishes it', async () => {
    const away = await invoke(servers.folder, ['rollback', '--to', '1', '--id', 'away'], {
      ...environment,
      ERRATA_TEMPORAL_ADDRESS: '127.0.0.1:1',
    });
    expect(away).toMatchObject({
      code: 1,
      out: expect.stringContaining('Alias stable is on version 1') as string,
    });
    expect(away.err).toContain('--id away');
    await untilTrue(async () => (await served()) === 1);
    expect((await errata('alias', 'stable', 'head', '--by', 'ada')).code).toBe(0);
    await untilTrue(async () => (await served()) === 6);
    expect((await errata('alias', 'stable', '99')).code).toBe(1);
    expect(JSON.parse((await errata('alias', '--json')).out)).toMatchObject({
      aliases: [{ alias: 'stable', version: null, by: 'ada' }],
    });
  });
});
