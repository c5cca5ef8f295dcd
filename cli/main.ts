/**
 * The command line `errata <command>`: parses arguments, runs the command, returns the exit code.
 */
import { fileURLToPath } from 'node:url';
import { Command, CommanderError } from 'commander';
import {
  addCommand,
  addGroup,
  type CommandGroup,
  type CommandSpecification,
} from './session/command.ts';
import { softwareVersion } from './session/software-version.ts';
import { endWithReader } from './terminal/closed-output.ts';
import { EXIT, EXIT_MEANINGS, type ExitCode } from './terminal/exit-code.ts';
import type { Surroundings } from './terminal/output.ts';

/**
 * Runs one invocation; `args` exclude the program name. Without `surroundings` it uses this
 * process's streams and ends the process soon after, even if a client is still waiting.
 */
export async function main(args: string[], surroundings?: Surroundings): Promise<ExitCode> {
  if (surroundings !== undefined) return invoke(args, surroundings);
  endWithReader([process.stdout, process.stderr]);
  const exitCode = await invoke(args, {
    in: process.stdin,
    out: process.stdout,
    err: process.stderr,
    environment: process.env,
    workingDirectory: process.cwd(),
  });
  setTimeout(() => process.exit(exitCode), EXIT_GRACE_MS).unref();
  return exitCode;
}

const EXIT_GRACE_MS = 2_000;

async function invoke(args: string[], surroundings: Surroundings): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok;
  const program = await programWith(surroundings, (code) => (exitCode = code), args[0]);
  try {
    if (args.length === 0) program.outputHelp();
    else await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  }
}

/** Builds the command tree: only the named command, or all for the help and for suggestions. */
export async function programWith(
  surroundings: Surroundings,
  exited: (code: ExitCode) => void,
  name?: string,
): Promise<Command> {
  const codes = EXIT_MEANINGS.map(([code, meaning]) => `  ${String(code).padEnd(5)}${meaning}`);
  const program = new Command('errata')
    .description('Corrects the facts of a deployed language model from a stream of corrections.')
    .version(softwareVersion(), '--version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help for a command')
    .showSuggestionAfterError()
    .exitOverride()
    .configureHelp({
      showGlobalOptions: false,
      subcommandTerm: (command) =>
        `${command.name()} ${command.usage().replace('[options]', '').trim()}`,
    })
    .configureOutput({
      writeOut: (text) => surroundings.out.write(text),
      writeErr: (text) => surroundings.err.write(text),
      getOutHelpWidth: () => 100,
      getErrHelpWidth: () => 100,
    })
    .addHelpText(
      'after',
      `\nExit codes:\n${codes.join('\n')}\n\nStart here:\n  $ errata up --demo`,
    );
  const loaders =
    name !== undefined && Object.hasOwn(COMMANDS, name)
      ? [COMMANDS[name]!]
      : Object.values(COMMANDS);
  for (const { default: one } of await Promise.all(loaders.map((load) => load()))) {
    if ('commands' in one) addGroup(program, one, surroundings, exited);
    else addCommand(program, one, surroundings, exited);
  }
  return program;
}

/** The commands in help order. Each is loaded on demand, since some load slowly. */
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
  resubmit: () => import('./commands/resubmit/index.ts'),
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

if (process.argv[1] !== undefined && fileURLToPath(import.meta.url) === process.argv[1]) {
  process.exitCode = await main(process.argv.slice(2));
}
