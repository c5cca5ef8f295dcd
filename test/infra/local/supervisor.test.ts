import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readConfiguration, type Configuration } from '../../../infra/config/configuration.ts';
import {
  DEFAULT_RESTART_POLICY,
  ProcessStartError,
  type ProcessSpecification,
} from '../../../infra/local/supervised-process.ts';
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
  isRunning,
  lastSystem,
  markOf,
  writeSystem,
} from '../../../infra/local/system-state.ts';

const READY = `process.send({ kind: 'ready', port: process.env.ERRATA_PORT * 1 }); process.on('SIGTERM', () => process.exit(0)); setInterval(() => {}, 1000);`;
const NEVER_READY = `process.on('SIGTERM', () => process.exit(0)); setInterval(() => {}, 1000);`;
const POLICY = { ...DEFAULT_RESTART_POLICY, waitMsMin: 1, waitMsMax: 1 };

let home: string;
let configuration: Configuration;
let systems: RunningSystem[];
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'errata-system-'));
  // Servers that somebody else runs: nothing here talks to them.
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

describe('the system on one machine', () => {
  it('is up when every process is ready, and says where everything is', async () => {
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

  it('gives its processes the addresses and the flags of the command line', async () => {
    const { state } = await start({
      overlay: { ERRATA_MODEL: 'a/model' },
      processes: processes({
        serve: `const { ERRATA_HOME, ERRATA_KAFKA_BROKERS, ERRATA_MODEL } = process.env; if (ERRATA_HOME === ${JSON.stringify(home)} && ERRATA_KAFKA_BROKERS === '127.0.0.1:9' && ERRATA_MODEL === 'a/model') { ${READY} }`,
      }),
    });
    expect(state.processes[0]!.state).toBe('ready');
  });

  it('refuses a second system of the same data folder', async () => {
    await start({ processes: all(READY) });
    await expect(startSystem(configuration, { processes: all(READY) })).rejects.toThrow(
      AlreadyRunningError,
    );
    expect(findSystem(home)).not.toBeNull();
  });

  it('leaves nothing behind when it is stopped, and can be started again', async () => {
    const system = await start({ processes: all(READY) });
    const marks = system.state.processes.map((one) => one.mark);
    await system.stop();
    expect(marks.some(isRunning)).toBe(false);
    expect(findSystem(home)).toBeNull();
    expect((await start({ processes: all(READY) })).state.state).toBe('ready');
  });

  it('stops its processes one after another, ingest first', async () => {
    const stopped: string[] = [];
    const system = await start({
      processes: all(READY),
      report: (who, event) => event === 'stopping' && stopped.push(who),
    });
    await system.stop();
    expect(stopped[0]).toBe('ingest');
    expect(stopped).toHaveLength(4);
  });

  it('leaves nothing behind when a process does not start', async () => {
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

  it('can be interrupted while it starts', async () => {
    const interruption = new AbortController();
    const starting = startSystem(configuration, {
      processes: processes({ ingest: NEVER_READY }),
      signal: interruption.signal,
      changed: () => interruption.abort(),
    });
    await expect(starting).rejects.toThrow(StartInterrupted);
    expect(findSystem(home)).toBeNull();
  });

  it('starts serve after the edit worker where no key statistics are there yet, so that they are taken once', async () => {
    const order: string[] = [];
    const report = (who: string, event: string) => void (event === 'ready' && order.push(who));
    await (await start({ processes: all(READY), report })).stop();
    expect(order.at(-1)).toBe('serve');
    order.length = 0;
    // Another editor has other statistics.
    await (
      await startSystem(
        { ...configuration, hyperParameters: { lambda: 7 } },
        { processes: all(READY), policy: POLICY, report },
      )
    ).stop();
    expect(order.at(-1)).toBe('serve');
    await (await start({ processes: all(READY) })).stop();
    // Now serve need not wait for anybody: it becomes ready although the edit worker never does.
    const interruption = new AbortController();
    const starting = startSystem(configuration, {
      processes: processes({ serve: READY, 'edit-worker': NEVER_READY }),
      signal: interruption.signal,
      report: (who) => void (who === 'serve' && interruption.abort()),
    });
    await expect(starting).rejects.toThrow(StartInterrupted);
  });

  it('ends what an earlier supervisor left behind when it was killed', async () => {
    const system = await start({ processes: all(READY) });
    const orphans = system.state.processes.map((one) => structuredClone(one));
    const state = structuredClone(system.state);
    await system.stop();
    // As if these had been left: one that runs, under a supervisor that does not.
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
});
