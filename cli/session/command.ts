/** The definition of a command: its help, its typed options and its work. */
import { Option, type Command } from 'commander';
import { seconds } from '../input/option-values.ts';
import { failureOf } from '../terminal/command-failure.ts';
import { EXIT, type ExitCode } from '../terminal/exit-code.ts';
import type { Surroundings } from '../terminal/output.ts';
import { Session } from './session.ts';

/** One option; `Value` is its parsed type. */
export interface OptionSpecification<Value> {
  /** As commander writes them: `-n, --count <number>`. */
  flags: string;
  help: string;
  parse?(text: string, before: Value | undefined): Value;
  /** The default, which the help shows. */
  initial?: Value;
  required?: boolean;
  /** The default, which the help does not show. */
  absent?: Value;
}

export type OptionSpecifications = Record<string, OptionSpecification<unknown>>;

export type OptionValues<Specifications extends OptionSpecifications> = {
  [Name in keyof Specifications]: Specifications[Name] extends OptionSpecification<infer Value>
    ? Value
    : never;
};

export function flag(flags: string, help: string): OptionSpecification<boolean> {
  return { flags, help, absent: false };
}

export function option(flags: string, help: string): OptionSpecification<string | undefined>;
export function option<Value>(
  flags: string,
  help: string,
  parse: (text: string) => Value,
): OptionSpecification<Value | undefined>;
export function option<Value>(
  flags: string,
  help: string,
  parse: (text: string) => Value,
  initial: Value,
): OptionSpecification<Value>;
export function option<Value>(
  flags: string,
  help: string,
  parse?: (text: string) => Value,
  initial?: Value,
): OptionSpecification<Value | undefined> {
  return { flags, help, ...(parse && { parse }), ...(initial !== undefined && { initial }) };
}

export function required<Value>(
  flags: string,
  help: string,
  parse: (text: string) => Value,
): OptionSpecification<Value> {
  return { flags, help, parse, required: true };
}

/** An option that may be repeated. */
export function repeated<Value>(
  flags: string,
  help: string,
  parse: (text: string) => Value,
): OptionSpecification<Value[]> {
  return {
    flags,
    help: `${help} (repeatable)`,
    parse: (text, before) => [...(before ?? []), parse(text)],
    absent: [],
  };
}

export const LINEAGE = option('--lineage <name>', 'which lineage (default: the first one)');

export const MODEL = option(
  '--model <path or id>',
  'the model: a path, or a Hugging Face id (ERRATA_MODEL)',
);

export const WAIT_OPTIONS = {
  wait: flag('--wait', 'stay until each is decided'),
  timeout: option('--timeout <seconds>', 'with --wait: how long at most', seconds, 1_800),
};

export interface CommandSpecification<Options> {
  /** Name and arguments, as commander writes them: `show <version>`. */
  usage: string;
  summary: string;
  description: string;
  /**
   * One line each: the command, two spaces, its meaning; or the meaning indented on the next line.
   */
  examples: string;
  /** The action named in failures: "submit the corrections". */
  operation: string;
  options(command: Command): void;
  /** Returning nothing means success. */
  run(session: Session, options: Options, args: string[]): Promise<ExitCode | void>;
}

/** Defines a command. Single line breaks in its description are ignored. */
export function command<const Specifications extends OptionSpecifications>(
  definition: Omit<CommandSpecification<never>, 'options' | 'run'> & {
    options?: Specifications;
    run: CommandSpecification<OptionValues<Specifications>>['run'];
  },
): CommandSpecification<OptionValues<Specifications>> {
  const specifications = Object.entries(definition.options ?? {}).map(([name, one]) => ({
    name,
    one,
    option: optionOf(one),
  }));
  return {
    ...definition,
    description: paragraphs(definition.description),
    options(command) {
      for (const { option } of specifications) command.addOption(option);
    },
    run(session, given, args) {
      const values = specifications.map(({ name, one, option }) => [
        name,
        (given as Record<string, unknown>)[option.attributeName()] ?? one.absent,
      ]);
      const options = Object.fromEntries(values) as OptionValues<Specifications>;
      return definition.run(session, options, args);
    },
  };
}

function optionOf(specification: OptionSpecification<unknown>): Option {
  const { flags, help, initial } = specification;
  const option = new Option(flags, paragraphs(help));
  const parse = specification.parse?.bind(specification);
  if (parse !== undefined) option.argParser(parse);
  if (initial !== undefined) option.default(initial);
  return option.makeOptionMandatory(specification.required === true);
}

/** Joins the lines of each paragraph, since the help wraps text to its own width. */
export function paragraphs(text: string): string {
  return text
    .trim()
    .split(/\n\s*\n/)
    .map((paragraph) => paragraph.replace(/\s+/g, ' '))
    .join('\n\n');
}

/** Commands under one name, such as `errata token create`. */
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
  const { name, summary, description, commands } = group;
  const parent = program.command(name).summary(summary).description(paragraphs(description));
  for (const specification of commands) addCommand(parent, specification, surroundings, exited);
}

/** Adds the command, which reports its exit code through `exited`. */
export function addCommand<Options>(
  program: Command,
  specification: CommandSpecification<Options>,
  surroundings: Surroundings,
  exited: (code: ExitCode) => void,
): void {
  const { usage, summary, description, operation } = specification;
  const command = program.command(usage).summary(summary).description(description);
  specification.options(command);
  command.option('--json', 'write the result as JSON');
  command.addHelpText('after', `\nExamples:\n${exampleLines(specification.examples)}`);
  command.action(async (...received: unknown[]) => {
    const options = command.opts<Options & { json?: boolean }>();
    const args = received.slice(0, -2).flatMap((value) => (value ?? []) as string | string[]);
    const session = new Session(surroundings, options.json === true);
    try {
      exited((await specification.run(session, options, args)) ?? EXIT.ok);
    } catch (error) {
      const failure = failureOf(error);
      session.output.failure(failure, operation);
      exited(failure.exitCode);
    }
  });
}

function exampleLines(examples: string): string {
  return examples
    .trim()
    .split('\n')
    .map((line) => {
      const [, command, meaning] = /^(.*?)(?: {2,}(.*))?$/.exec(line)!;
      if (command === '') return `      ${meaning}`;
      return `  $ errata ${command}${meaning === undefined ? '' : `\n      ${meaning}`}`;
    })
    .join('\n');
}

export { EXIT, type ExitCode };
