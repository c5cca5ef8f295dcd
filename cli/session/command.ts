/**
 * How a command is written: a description for the help, and what it does, which answers with the
 * exit code.
 */
import type { Command } from 'commander';
import { failureOf } from './command-failure.ts';
import { EXIT, type ExitCode } from '../terminal/exit-code.ts';
import { Session, type Surroundings } from './session.ts';

export interface CommandSpecification<Options> {
  /** Name and arguments, as commander writes them: `show <version>`. */
  usage: string;
  summary: string;
  description: string;
  examples: [command: string, meaning: string][];
  /** What it cannot do when it fails: "submit the corrections". */
  operation: string;
  options(command: Command): void;
  run(session: Session, options: Options, args: string[]): Promise<ExitCode>;
}

/** Commands under one name: `errata token create`. */
export interface CommandGroup {
  name: string;
  summary: string;
  description: string;
  commands: CommandSpecification<never>[];
}

export function addGroup(
  program: Command,
  group: CommandGroup,
  surroundings: Surroundings,
  exited: (code: ExitCode) => void,
): void {
  const parent = program.command(group.name).summary(group.summary).description(group.description);
  for (const specification of group.commands)
    addCommand(parent, specification, surroundings, exited);
}

/** Adds the command; what it exits with is reported through `exited`. */
export function addCommand<Options>(
  program: Command,
  specification: CommandSpecification<Options>,
  surroundings: Surroundings,
  exited: (code: ExitCode) => void,
): void {
  const command = program
    .command(specification.usage)
    .summary(specification.summary)
    .description(specification.description);
  specification.options(command);
  command.option('--json', 'write the result as JSON');
  command.addHelpText(
    'after',
    `\nExamples:\n${specification.examples.map(([example, meaning]) => `  $ errata ${example}\n      ${meaning}`).join('\n')}`,
  );
  command.action(async (...received: unknown[]) => {
    const options = command.opts<Options & { json?: boolean }>();
    const args = received
      .slice(0, -2)
      .flatMap((value) => (value === undefined ? [] : (value as string | string[])));
    const session = new Session(surroundings, options.json === true);
    try {
      exited(await specification.run(session, options, args));
    } catch (error) {
      const failure = failureOf(specification.operation, error);
      session.output.failure(failure);
      exited(failure.exitCode);
    }
  });
}

/** For options that may be given more than once. */
export function collected(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value];
}

export const LINEAGE_OPTION: [string, string] = [
  '--lineage <name>',
  'which lineage (default: the first one)',
];

export { EXIT, type ExitCode };
