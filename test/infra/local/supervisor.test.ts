import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readConfiguration, type Configuration } from '../../../infra/config/configuration.ts';
import {
  DEFAULT_RESTART_POLICY,
  ProcessStartError,
  type ProcessSpecification,
} from '../../../infra/local/supervised-process.ts';
import { isRunning, markOf } from '../../../infra/local/process-mark.ts';
import {
  AlreadyRunningError,
  PROCESS_NAMES,
  StartInterrupted,
  startSystem,
  type RunningSystem,
} from '../../../infra/local/supervisor.ts';
import {
  attached,
  findSystem,
  lastSystem,
  writeSystem,
} from '../../../infra/local/system-state.ts';

const READY = `
  process.send({ kind: 'ready', port: Number(process.env.ERRATA_PORT) });
  process.on('SIGTERM', () => process.exit(0));
  setInterval(() => {}, 1000);`;
const NEVER_READY = `process.on('SIGTERM', () => process.exit(0)); setInterval(() => {}, 1000);`;
const POLICY = { ...DEFAULT_RESTART_POLICY, waitMsMin: 1, waitMsMax: 1 };

let home: string;
let configuration: Configuration;
let systems: RunningSystem[];
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'errata-system-'));
  // No server in these tests connects to these addresses.
  configuration = readConfiguration(
    {
      ERRATA_HOME: home,
      ERRATA_KAFKA_BROKERS: '127.0.0.1:9',
      ERRATA_TEMPORAL_ADDRESS: '127.0.0.1:9',
    },
    home,
  );
  systems = [];
});
afterEach(async () => {
  for (const system of systems) await system.stop();
  rmSync(home, { recursive: true, force: true });
});

const processes =
  (scripts: Record<string, string>) =>
  (environment: NodeJS.ProcessEnv): ProcessSpecification[] =>
    Object.entries(scripts).map(([name, script]) => ({
      name,
      executable: process.execPath,
      args: ['-e', script],
      environment,
      workingDirectory: home,
      log: join(home, 'logs', `${name}.log`),
    }));
const all = (script: string) =>
  processes(Object.fromEntries(PROCESS_NAMES.map((name) => [name, script])));

async function start(options: Parameters<typeof startSystem>[1]): Promise<RunningSystem> {
  const system = await startSystem(configuration, { policy: POLICY, ...options });
  systems.push(system);
  return system;
}

test('the system is up when every process is ready, with all addresses', async () => {
  const { state } = await start({ processes: all(READY) });
  expect(state.state).toBe('ready');
  expect(state.processes.map((one) => one.state)).toEqual(['ready', 'ready', 'ready', 'ready']);
  const found = findSystem(home)!;
  expect(found).toMatchObject({
    state: 'ready',
    kafka: { brokers: ['127.0.0.1:9'], embedded: false },
    lineages: ['default'],
  });
  expect(found.serveUrl).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  expect(attached(readConfiguration({ ERRATA_HOME: home }, home), found)).toMatchObject({
    kafka: { brokers: ['127.0.0.1:9'] },
    temporal: { address: '127.0.0.1:9' },
    serve: { url: found.serveUrl },
  });
});

test('the processes get the addresses and the flags of the command line', async () => {
  const { state } = await start({
    overlay: { ERRATA_MODEL: 'a/model' },
    processes: processes({
      serve: `
        const { ERRATA_HOME, ERRATA_KAFKA_BROKERS, ERRATA_MODEL } = process.env;
        const right = ERRATA_HOME === ${JSON.stringify(home)} && ERRATA_MODEL === 'a/model';
        if (right && ERRATA_KAFKA_BROKERS === '127.0.0.1:9') { ${READY} }`,
    }),
  });
  expect(state.processes[0]!.state).toBe('ready');
});

test('a second system on the same data folder is refused', async () => {
  await start({ processes: all(READY) });
  await expect(startSystem(configuration, { processes: all(READY) })).rejects.toThrow(
    AlreadyRunningError,
  );
  expect(findSystem(home)).not.toBeNull();
});

test('a stopped system leaves nothing behind and can be started again', async () => {
  const system = await start({ processes: all(READY) });
  const marks = system.state.processes.map((one) => one.mark);
  await system.stop();
  expect(marks.some(isRunning)).toBe(false);
  expect(findSystem(home)).toBeNull();
  expect((await start({ processes: all(READY) })).state.state).toBe('ready');
});

test('the processes are stopped one after another, ingest first', async () => {
  const stopped: string[] = [];
  const system = await start({
    processes: all(READY),
    report: (who, event) => event === 'stopping' && stopped.push(who),
  });
  await system.stop();
  expect(stopped[0]).toBe('ingest');
  expect(stopped).toHaveLength(4);
});

test('a failed start of one process leaves nothing behind', async () => {
  const seen = new Set<number>();
  const starting = startSystem(configuration, {
    policy: POLICY,
    processes: processes({
      'workflow-worker': READY,
      ingest: `console.error('no brokers'); process.exit(1)`,
    }),
    changed: (state) =>
      state.processes.forEach((one) => one.mark !== null && seen.add(one.mark.pid)),
  });
  await expect(starting).rejects.toThrow(ProcessStartError);
  await expect(starting).rejects.toThrow(/no brokers/);
  expect([...seen].map(markOf).some(isRunning)).toBe(false);
  expect(findSystem(home)).toBeNull();
});

test('a start can be interrupted', async () => {
  const interruption = new AbortController();
  const starting = startSystem(configuration, {
    processes: processes({ ingest: NEVER_READY }),
    signal: interruption.signal,
    changed: () => interruption.abort(),
  });
  await expect(starting).rejects.toThrow(StartInterrupted);
  expect(findSystem(home)).toBeNull();
});

test('serve starts after the edit worker if key statistics are missing', async () => {
  const order: string[] = [];
  const report = (who: string, event: string) => void (event === 'ready' && order.push(who));
  await (await start({ processes: all(READY), report })).stop();
  expect(order.at(-1)).toBe('serve');
  order.length = 0;
  // Another editor needs other statistics.
  await (
    await startSystem(
      { ...configuration, hyperParameters: { lambda: 7 } },
      { processes: all(READY), policy: POLICY, report },
    )
  ).stop();
  expect(order.at(-1)).toBe('serve');
  await (await start({ processes: all(READY) })).stop();
  // Serve becomes ready although the edit worker never does.
  const interruption = new AbortController();
  const starting = startSystem(configuration, {
    processes: processes({ serve: READY, 'edit-worker': NEVER_READY }),
    signal: interruption.signal,
    report: (who) => void (who === 'serve' && interruption.abort()),
  });
  await expect(starting).rejects.toThrow(StartInterrupted);
});

test('processes left by a killed supervisor are ended', async () => {
  const system = await start({ processes: all(READY) });
  const orphans = system.state.processes.map((one) => structuredClone(one));
  const state = structuredClone(system.state);
  await system.stop();
  // The state has a running process under a supervisor that has ended.
  const survivor = await start({ processes: processes({ ingest: READY }) });
  const mark = survivor.state.processes[0]!.mark;
  const other = mkdtempSync(join(tmpdir(), 'errata-system-'));
  try {
    writeSystem(other, {
      ...state,
      supervisor: { ...state.supervisor, startTicks: '1' },
      processes: [{ ...orphans[0]!, mark }],
    });
    expect(lastSystem(other)).not.toBeNull();
    expect(findSystem(other)).toBeNull();
    const next = await startSystem(
      { ...configuration, home: other },
      { processes: processes({ ingest: READY }), policy: POLICY },
    );
    expect(isRunning(mark)).toBe(false);
    await next.stop();
  } finally {
    rmSync(other, { recursive: true, force: true });
  }
});
