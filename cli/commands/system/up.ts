import { spawn } from 'node:child_process';
import { mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { Configuration } from '../../../infra/config/configuration.ts';
import { PROJECT_ROOT } from '../../../infra/config/home.ts';
import { requireUsers } from '../../../infra/config/require-users.ts';
import {
  startSystem,
  StartInterrupted,
  type RunningSystem,
} from '../../../infra/local/supervisor.ts';
import { attached, findSystem, type SystemState } from '../../../infra/local/system-state.ts';
import { parser } from '../../input/option-values.ts';
import { command, EXIT, flag, option, type ExitCode, MODEL } from '../../session/command.ts';
import type { Session } from '../../session/session.ts';
import { readDemonstrations } from '../../demonstration/history.ts';
import { failed } from '../../terminal/command-failure.ts';
import { listenForInterruption, type Interruption } from '../../terminal/interruption.ts';
import type { Output } from '../../terminal/output.ts';
import { bold, dim, green, yellow } from '../../terminal/colours.ts';
import { StatusLine, whileWaiting } from '../../terminal/status-line.ts';
import { setUp } from './set-up.ts';

/** `errata up`: runs the whole system on one machine. */
export default command({
  usage: 'up',
  summary: 'start the whole system on this machine',
  description: `Installs what is missing, then starts Kafka, Temporal (unless the configuration
names existing ones) and the four processes: serve, edit-worker, workflow-worker, ingest. Restarts
what crashes, and stops everything in order at Ctrl-C. Data is kept in one folder (ERRATA_HOME), so
the next start continues from there.`,
  examples: `
up         the system, until Ctrl-C
up --demo  with the demonstration stream, once per data folder
up --demo --exit  ends after the demonstration; the exit code says whether it worked`,
  operation: 'start the system',
  options: {
    model: MODEL,
    lineages: option('--lineages <names>', 'lineages, separated by commas (ERRATA_LINEAGES)'),
    port: option(
      '--port <port>',
      'port of `serve` (ERRATA_PORT)',
      parser('a port, 0 to 65535', (text) =>
        /^\d{1,5}$/.test(text) && Number(text) <= 65_535 ? text : undefined,
      ),
    ),
    demo: flag('--demo', 'run the demonstration stream, unless it ran in this data folder'),
    demoAgain: flag('--demo-again', 'run the demonstration stream in any case'),
    exit: flag('--exit', 'stop when everything is up and the demonstration, if requested, is over'),
    detach: flag('--detach', 'run in the background; returns when everything is up'),
  },
  async run(session, options) {
    const flags = FLAGS.flatMap(({ flag, name, variable }) => {
      const value = options[name];
      return value === undefined ? [] : [{ flag, variable, value }];
    });
    const overlay = Object.fromEntries(flags.map(({ variable, value }) => [variable, value]));
    const configuration = session.configuration(overlay);
    const running = findSystem(configuration.home);
    if (running !== null) return showRunning(session.output, configuration, running);
    requireUsers(configuration);
    const { kafka, temporal } = configuration;
    await setUp(session.output, configuration, [
      ...(kafka.embedded ? (['kafka'] as const) : []),
      ...(temporal.embedded ? (['temporal'] as const) : []),
    ]);
    if (options.detach)
      return await detach(
        session,
        configuration,
        flags.flatMap(({ flag, value }) => [flag, value]),
      );
    return await attend(session, configuration, overlay, options);
  },
});

const FLAGS = [
  { flag: '--model', name: 'model', variable: 'ERRATA_MODEL' },
  { flag: '--lineages', name: 'lineages', variable: 'ERRATA_LINEAGES' },
  { flag: '--port', name: 'port', variable: 'ERRATA_PORT' },
] as const;

const DETACHED_WAIT_MS = 1_800_000;
const LOOK_EVERY_MS = 200;

function showRunning(output: Output, { home }: Configuration, system: SystemState): ExitCode {
  output.result({ started: false, system }, () =>
    [
      `A system of ${home} is running already (pid ${system.supervisor.pid}).`,
      addressesText(system),
      '',
      'errata down stops it; errata demo runs the demonstration on it.',
    ].join('\n'),
  );
  return EXIT.ok;
}

async function attend(
  { output }: Session,
  configuration: Configuration,
  overlay: Record<string, string>,
  options: Record<'demo' | 'demoAgain' | 'exit', boolean>,
): Promise<ExitCode> {
  const interruption = listenForInterruption();
  try {
    const running = await start(output, configuration, overlay, interruption);
    const system = running.state;
    try {
      output.item({ event: 'up', system }, () => `\n${addressesText(system)}`);
      let worked: boolean | null = true;
      if (options.demo || options.demoAgain) {
        const work = demonstration(output, attached(configuration, system), options.demoAgain);
        worked = await Promise.race([work, interruption.came]);
      }
      if (worked === null) return EXIT.interrupted;
      if (options.exit) return worked ? EXIT.ok : EXIT.failure;
      output.line(nextStepsText(system));
      output.line(dim('\nCtrl-C stops everything.'));
      await interruption.came;
      return EXIT.ok;
    } finally {
      await whileWaiting(output, 'stopping', () => running.stop());
    }
  } catch (error) {
    if (error instanceof StartInterrupted) return EXIT.interrupted;
    throw error;
  } finally {
    interruption.end();
  }
}

async function start(
  output: Output,
  configuration: Configuration,
  overlay: Record<string, string>,
  interruption: Interruption,
): Promise<RunningSystem> {
  const aborting = new AbortController();
  void interruption.came.then(() => aborting.abort());
  const startedMs = performance.now();
  const line = new StatusLine(output);
  const steps = new Map<string, string>();
  const show = (): void =>
    line.set([...steps].map(([who, what]) => `${who}: ${what}`).join(', ') || 'starting');
  output.note(`Starting. Data is in ${configuration.home}.`);
  try {
    return await startSystem(configuration, {
      overlay,
      signal: aborting.signal,
      report(who, event) {
        if (event === 'starting') steps.set(who, event);
        else steps.delete(who);
        show();
        const seconds = dim(`${((performance.now() - startedMs) / 1_000).toFixed(1)} s`);
        if (event === 'ready' || event === 'found running')
          line.above(`${green('✓')} ${who.padEnd(16)} ${event}  ${seconds}`);
        else if (!['starting', 'stopping', 'stopped'].includes(event))
          line.above(`${yellow('!')} ${who.padEnd(16)} ${event}`);
      },
      changed(state) {
        for (const process of state.processes) {
          if (process.state === 'starting') steps.set(process.name, process.step ?? 'starting');
          else steps.delete(process.name);
        }
        show();
      },
    });
  } finally {
    line.end();
  }
}

async function demonstration(
  output: Output,
  configuration: Configuration,
  again: boolean,
): Promise<boolean> {
  const lineage = configuration.lineages[0]!;
  const { lastPassed } = readDemonstrations(configuration.home, lineage);
  if (lastPassed !== null && !again) {
    const text =
      `The demonstration ran in this data folder and ${lastPassed ? 'worked' : 'failed'}; ` +
      '`errata demo` (or --demo-again) runs it again.';
    output.line(dim(`\n${text}`));
    return lastPassed;
  }
  const { demonstrate } = await import('../../demonstration/demonstrate.ts');
  const report = await demonstrate(output, configuration, lineage);
  if (output.json) output.item({ event: 'demonstration', report }, () => '');
  return report.passed;
}

/** Starts the command in a detached process and waits until its system is up. */
async function detach(
  { output, surroundings }: Session,
  { home }: Configuration,
  flags: string[],
): Promise<ExitCode> {
  const log = join(home, 'logs', 'up.log');
  mkdirSync(join(home, 'logs'), { recursive: true });
  const file = openSync(log, 'a');
  const program = ['--import', import.meta.resolve('tsx'), join(PROJECT_ROOT, 'cli', 'main.ts')];
  const child = spawn(process.execPath, [...program, 'up', ...flags], {
    detached: true,
    stdio: ['ignore', file, file],
    cwd: surroundings.workingDirectory,
  });
  let exitCode: number | null = null;
  child.once('exit', (code) => (exitCode = code ?? 1));
  const system = await whileWaiting(output, 'starting', async () => {
    const deadlineMs = performance.now() + DETACHED_WAIT_MS;
    for (;;) {
      const found = findSystem(home);
      if (found?.state === 'ready') return found;
      const hint = `Its output is in ${log}.`;
      if (exitCode !== null) throw failed(`it ended with code ${exitCode}`, hint);
      if (performance.now() > deadlineMs)
        throw failed(`it is not up after ${DETACHED_WAIT_MS / 60_000} minutes`, hint);
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  });
  child.unref();
  output.result(
    { started: true, system },
    () => `${addressesText(system)}\n\nerrata down stops it.`,
  );
  return EXIT.ok;
}

function addressesText(state: SystemState): string {
  const { temporal, kafka, lineages, serveUrl } = state;
  const row = (name: string, where: string, note: string): string =>
    `  ${name.padEnd(10)} ${bold(where)}${note === '' ? '' : `  ${dim(note)}`}`;
  const topics = lineages.map((lineage) => `errata.${lineage}.corrections`).join(', ');
  return [
    row('answers', serveUrl ?? '–', 'HTTP API and page'),
    temporal.uiUrl === null
      ? row('temporal', temporal.address, '')
      : row('temporal', temporal.uiUrl, `workflows, in your browser; server ${temporal.address}`),
    row('kafka', kafka.brokers.join(','), topics),
  ].join('\n');
}

function nextStepsText({ temporal }: SystemState): string {
  const page = `${temporal.uiUrl ?? ''}/namespaces/${temporal.namespace}/workflows`;
  const next: [string, string][] = [
    ['npx errata ask "The capital of Australia is the city of"', 'before and after, side by side'],
    ['npx errata log', 'the versions; `errata show 1` shows one'],
    ['npx errata submit --help', 'your own corrections'],
    [page, 'each batch, step by step'],
  ];
  const shown = temporal.uiUrl === null ? next.slice(0, -1) : next;
  return [
    `\n${bold('Where to look next')}`,
    ...shown.map(([command, what]) => `  ${command.padEnd(60)} ${dim(what)}`),
  ].join('\n');
}
