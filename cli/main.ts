/**
 * The command line: `errata <command>`. Reads arguments, picks the command, answers with the exit
 * code.
 */
import { fileURLToPath } from 'node:url';
import { Command, CommanderError } from 'commander';
import { endWithReader } from './terminal/closed-output.ts';
import {
  addCommand,
  addGroup,
  type CommandGroup,
  type CommandSpecification,
} from './session/command.ts';
import { EXIT, EXIT_MEANINGS, type ExitCode } from './terminal/exit-code.ts';
import type { Surroundings } from './session/session.ts';
import { softwareVersion } from './session/software-version.ts';

/**
 * Runs one invocation and resolves with its exit code; `args` without the program's name. Without
 * surroundings it is this process's own command: then the process ends soon after, whatever a
 * client that was cut short still waits for.
 */
export async function main(args: string[], surroundings?: Surroundings): Promise<ExitCode> {
  if (surroundings !== undefined) return invoke(args, surroundings);
  endWithReader([process.stdout, process.stderr]);
  const exitCode = await invoke(args, processSurroundings());
  setTimeout(() => process.exit(exitCode), EXIT_GRACE_MS).unref();
  return exitCode;
}

const EXIT_GRACE_MS = 2_000;

async function invoke(args: string[], surroundings: Surroundings): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok;
  const program = await programWith(surroundings, (code) => (exitCode = code), args[0]);
  try {
    if (args.length === 0) {
      program.outputHelp();
      return EXIT.ok;
    }
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  }
  return exitCode;
}

/**
 * The command tree, whole unless one command is named; the reference in docs/commands.md is made
 * from it.
 */
export async function programWith(
  surroundings: Surroundings,
  exited: (code: ExitCode) => void,
  named?: string,
): Promise<Command> {
  const program = new Command('errata')
    .description(
      'Keeps a deployed language model factually right: corrections stream in, validated versions come out.',
    )
    .version(softwareVersion(), '--version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help for a command')
    .showSuggestionAfterError()
    .exitOverride()
    .configureHelp({ showGlobalOptions: false })
    .configureOutput({
      writeOut: (text) => surroundings.out.write(text),
      writeErr: (text) => surroundings.err.write(text),
      getOutHelpWidth: () => 100,
      getErrHelpWidth: () => 100,
    })
    .addHelpText(
      'after',
      `\nExit codes:\n${EXIT_MEANINGS.map(([code, meaning]) => `  ${String(code).padEnd(5)}${meaning}`).join('\n')}\n\nStart here:\n  $ errata up --demo`,
    );
  for (const one of await commandsFor(named)) {
    if ('commands' in one) addGroup(program, one, surroundings, exited);
    else addCommand(program, one, surroundings, exited);
  }
  return program;
}

/**
 * In the order of the help. Each is loaded when it is asked for, since what some of them need takes
 * long to load.
 */
const COMMANDS: Record<
  string,
  () => Promise<{ default: CommandSpecification<never> | CommandGroup }>
> = {
  up: () => import('./commands/system/up.ts'),
  down: () => import('./commands/system/down.ts'),
  status: () => import('./commands/system/status.ts'),
  doctor: () => import('./commands/system/doctor.ts'),
  tune: () => import('./commands/system/tune.ts'),
  submit: () => import('./commands/corrections/submit.ts'),
  ask: () => import('./commands/corrections/ask.ts'),
  log: () => import('./commands/audit/log.ts'),
  show: () => import('./commands/audit/show.ts'),
  why: () => import('./commands/audit/why.ts'),
  diff: () => import('./commands/audit/diff.ts'),
  blame: () => import('./commands/audit/blame.ts'),
  failures: () => import('./commands/corrections/failures.ts'),
  history: () => import('./commands/audit/history.ts'),
  verify: () => import('./commands/audit/verify.ts'),
  export: () => import('./commands/audit/export.ts'),
  replay: () => import('./commands/replay/index.ts'),
  rebuild: () => import('./commands/operate/rebuild.ts'),
  compare: () => import('./commands/operate/compare.ts'),
  freeze: () => import('./commands/operate/freeze.ts'),
  resume: () => import('./commands/operate/resume.ts'),
  revert: () => import('./commands/operate/revert.ts'),
  rollback: () => import('./commands/operate/rollback.ts'),
  alias: () => import('./commands/operate/alias.ts'),
  watch: () => import('./commands/corrections/watch.ts'),
  demo: () => import('./commands/system/demo.ts'),
  token: () => import('./commands/token/index.ts'),
};

/** The one command that is named, else all of them: for help, and to suggest what was meant. */
async function commandsFor(
  named: string | undefined,
): Promise<(CommandSpecification<never> | CommandGroup)[]> {
  const loaders =
    named !== undefined && Object.hasOwn(COMMANDS, named)
      ? [COMMANDS[named]!]
      : Object.values(COMMANDS);
  return (await Promise.all(loaders.map((load) => load()))).map((module) => module.default);
}

function processSurroundings(): Surroundings {
  return {
    in: process.stdin,
    out: process.stdout,
    err: process.stderr,
    environment: process.env,
    workingDirectory: process.cwd(),
  };
}

if (process.argv[1] !== undefined && fileURLToPath(import.meta.url) === process.argv[1]) {
  process.exitCode = await main(process.argv.slice(2));
}
