import { spawn } from 'node:child_process';
import { mkdirSync, openSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { InvalidArgumentError } from 'commander';
import type { Configuration } from '../../../infra/config/configuration.ts';
import { homeAt, PROJECT_ROOT } from '../../../infra/config/home.ts';
import { attached, findSystem, type SystemState } from '../../../infra/local/system-state.ts';
import { fetchModel } from '../../../infra/setup/fetch-model.ts';
import { provision, type Part } from '../../../infra/setup/provision/index.ts';
import { requireUsers } from '../../../infra/config/require-users.ts';
import {
  startSystem,
  StartInterrupted,
  type RunningSystem,
} from '../../../infra/local/supervisor.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, type CommandSpecification, type ExitCode } from '../../session/command.ts';
import { readDemonstrations } from '../../demonstration/history.ts';
import { listenForInterruption, type Interruption } from '../../terminal/interruption.ts';
import type { Output } from '../../terminal/output.ts';
import { progressOf, whileWaiting } from '../../terminal/progress.ts';
import type { Session } from '../../session/session.ts';
import { StatusLine } from '../../terminal/status-line.ts';

interface Options {
  model?: string;
  lineages?: string;
  port?: string;
  demo?: boolean;
  demoAgain?: boolean;
  exit?: boolean;
  detach?: boolean;
}

/** `errata up`: the whole system on one machine. */
const up: CommandSpecification<Options> = {
  usage: 'up',
  summary: 'start the whole system on this machine',
  description: `Sets up what is missing, then starts Kafka, Temporal (unless the configuration names some) and the four processes: serve, edit-worker, workflow-worker, ingest. Stays until Ctrl-C, restarts what crashes, and stops everything in order.
Data is kept in one folder (ERRATA_HOME), so the next start goes on where this one ended.`,
  examples: [
    ['up', 'the system, until Ctrl-C'],
    ['up --demo', 'with the demonstration stream, once per data folder'],
    ['up --demo --exit', 'ends after the demonstration; the exit code says whether it worked'],
    ['up --detach', 'in the background; `errata down` stops it'],
    ['up --model ./my-model --port 9000', 'another model, another port'],
  ],
  operation: 'start the system',
  options: (command) =>
    command
      .option('--model <path or id>', 'the model: a path, or a Hugging Face id (ERRATA_MODEL)')
      .option('--lineages <names>', 'lineages, separated by commas (ERRATA_LINEAGES)')
      .option('--port <port>', 'port of `serve` (ERRATA_PORT)', portNamed)
      .option('--demo', 'run the demonstration stream, unless it ran in this data folder')
      .option('--demo-again', 'run the demonstration stream in any case')
      .option('--exit', 'stop when everything is up and the demonstration, if asked for, is over')
      .option('--detach', 'run in the background; returns when everything is up'),
  async run(session, options) {
    const overlay = overlayOf(options);
    const configuration = session.configuration(overlay);
    const running = findSystem(configuration.home);
    if (running !== null) return alreadyRunning(session, configuration, running);
    requireUsers(configuration);
    await setUp(session.output, configuration);
    if (options.detach === true) return detach(session, configuration, overlay);
    return attend(session, configuration, overlay, options);
  },
};

export default up;

const DETACHED_WAIT_MS = 1_800_000;
const LOOK_EVERY_MS = 200;

function overlayOf(options: Options): Record<string, string> {
  const flags: [string, string | undefined][] = [
    ['ERRATA_MODEL', options.model],
    ['ERRATA_LINEAGES', options.lineages],
    ['ERRATA_PORT', options.port],
  ];
  return Object.fromEntries(
    flags.filter((flag): flag is [string, string] => flag[1] !== undefined),
  );
}

/** What is running is what was asked for, so this is no failure; but nothing was begun. */
function alreadyRunning(
  session: Session,
  configuration: Configuration,
  system: SystemState,
): ExitCode {
  session.output.result(
    { started: false, system },
    () =>
      `A system of ${configuration.home} is running already (pid ${system.supervisor.pid}).\n${whereEverythingIs(session.output, system)}\n\nerrata down stops it; errata demo runs the demonstration on it.`,
  );
  return EXIT.ok;
}

async function setUp(output: Output, configuration: Configuration): Promise<void> {
  const parts: Part[] = ['tensorflow'];
  if (configuration.kafka.embedded) parts.push('kafka');
  if (configuration.temporal.embedded) parts.push('temporal');
  if (configuration.model === null) parts.push('model');
  const progress = progressOf(output);
  await provision(parts, {
    home: homeAt(configuration.home),
    device: configuration.device,
    progress,
  });
  if (configuration.model !== null && !isAbsolute(configuration.model))
    await fetchModel(configuration, configuration.model, progress);
}

async function attend(
  session: Session,
  configuration: Configuration,
  overlay: Record<string, string>,
  options: Options,
): Promise<ExitCode> {
  const { output } = session;
  const interruption = listenForInterruption();
  try {
    return await attendSystem(
      session,
      await start(output, configuration, overlay, interruption),
      configuration,
      options,
      interruption,
    );
  } catch (error) {
    if (error instanceof StartInterrupted) return EXIT.interrupted;
    throw error;
  } finally {
    interruption.end();
  }
}

async function attendSystem(
  session: Session,
  system: RunningSystem,
  configuration: Configuration,
  options: Options,
  interruption: Interruption,
): Promise<ExitCode> {
  const { output } = session;
  try {
    const { state } = system;
    output.item({ event: 'up', system: state }, () => `\n${whereEverythingIs(output, state)}`);
    let worked = true;
    if (options.demo === true || options.demoAgain === true) {
      const outcome = await Promise.race([
        demonstration(session, attached(configuration, state), options),
        interruption.came,
      ]);
      if (outcome === null) return EXIT.interrupted;
      worked = outcome;
    }
    if (options.exit === true) return worked ? EXIT.ok : EXIT.failure;
    output.line(whereToLookNext(output, state));
    output.line(output.colours.dim('\nCtrl-C stops everything.'));
    await interruption.came;
    return EXIT.ok;
  } finally {
    await whileWaiting(output, 'Stopping', null, () => system.stop());
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
        if (event === 'ready' || event === 'found running')
          line.above(
            `${output.colours.green('✓')} ${who.padEnd(16)} ${event}  ${output.colours.dim(`${((performance.now() - startedMs) / 1_000).toFixed(1)} s`)}`,
          );
        else if (event !== 'starting' && event !== 'stopping' && event !== 'stopped')
          line.above(`${output.colours.yellow('!')} ${who.padEnd(16)} ${event}`);
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
  session: Session,
  configuration: Configuration,
  options: Options,
): Promise<boolean> {
  const { output } = session;
  const lineage = configuration.lineages[0]!;
  const before = readDemonstrations(configuration.home, lineage);
  if (before.lastPassed !== null && options.demoAgain !== true) {
    output.line(
      output.colours.dim(
        `\nThe demonstration ran in this data folder ${before.lastPassed ? 'and worked' : 'and did not work'}; \`errata demo\` (or --demo-again) runs it again.`,
      ),
    );
    return before.lastPassed;
  }
  const { demonstrate } = await import('../../demonstration/demonstrate.ts');
  const report = await demonstrate(output, configuration, lineage);
  if (output.json) output.item({ event: 'demonstration', report }, () => '');
  return report.passed;
}

/**
 * Starts the same command without --detach as a process of its own and waits until its system is
 * up.
 */
async function detach(
  session: Session,
  configuration: Configuration,
  overlay: Record<string, string>,
): Promise<ExitCode> {
  const { output } = session;
  const log = join(configuration.home, 'logs', 'up.log');
  mkdirSync(join(configuration.home, 'logs'), { recursive: true });
  const file = openSync(log, 'a');
  const flags = [
    overlay['ERRATA_MODEL'] === undefined ? [] : ['--model', overlay['ERRATA_MODEL']],
    overlay['ERRATA_LINEAGES'] === undefined ? [] : ['--lineages', overlay['ERRATA_LINEAGES']],
    overlay['ERRATA_PORT'] === undefined ? [] : ['--port', overlay['ERRATA_PORT']],
  ].flat();
  const child = spawn(
    process.execPath,
    ['--import', import.meta.resolve('tsx'), join(PROJECT_ROOT, 'cli', 'main.ts'), 'up', ...flags],
    { detached: true, stdio: ['ignore', file, file], cwd: session.surroundings.workingDirectory },
  );
  const ended = new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
  let exitCode: number | null = null;
  void ended.then((code) => (exitCode = code));
  const system = await whileWaiting(output, 'Starting', null, async () => {
    const deadlineMs = performance.now() + DETACHED_WAIT_MS;
    for (;;) {
      const found = findSystem(configuration.home);
      if (found?.state === 'ready') return found;
      if (exitCode !== null)
        throw new CommandFailure(
          'start the system',
          `it ended with code ${exitCode}`,
          `Its output is in ${log}.`,
        );
      if (performance.now() > deadlineMs)
        throw new CommandFailure(
          'start the system',
          `it is not up after ${DETACHED_WAIT_MS / 60_000} minutes`,
          `Its output is in ${log}.`,
        );
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  });
  child.unref();
  output.result(
    { started: true, system },
    () => `${whereEverythingIs(output, system)}\n\nerrata down stops it.`,
  );
  return EXIT.ok;
}

function whereEverythingIs(output: Output, state: SystemState): string {
  const { bold, dim } = output.colours;
  const row = (name: string, where: string, note = ''): string =>
    `  ${name.padEnd(10)} ${bold(where)}${note === '' ? '' : `  ${dim(note)}`}`;
  return [
    row('answers', state.serveUrl ?? '–', 'HTTP API and page'),
    row(
      'temporal',
      state.temporal.uiUrl ?? state.temporal.address,
      state.temporal.uiUrl === null
        ? ''
        : `workflows, in your browser; server ${state.temporal.address}`,
    ),
    row(
      'kafka',
      state.kafka.brokers.join(','),
      state.lineages.map((lineage) => `errata.${lineage}.corrections`).join(', '),
    ),
  ].join('\n');
}

function whereToLookNext(output: Output, state: SystemState): string {
  const { bold, dim } = output.colours;
  const next: [string, string][] = [
    ['npx errata ask "The capital of Australia is the city of"', 'before and after, side by side'],
    ['npx errata log', 'the versions; errata show 1 for one'],
    ['npx errata submit --help', 'your own corrections'],
    ...(state.temporal.uiUrl === null
      ? []
      : ([
          [
            `${state.temporal.uiUrl}/namespaces/${state.temporal.namespace}/workflows`,
            'each batch, step by step',
          ],
        ] as [string, string][])),
  ];
  return `\n${bold('Where to look next')}\n${next.map(([command, what]) => `  ${command.padEnd(60)} ${dim(what)}`).join('\n')}`;
}

function portNamed(text: string): string {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535)
    throw new InvalidArgumentError('It must be a port, 0 to 65535.');
  return text;
}
