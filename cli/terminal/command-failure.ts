/** A command that cannot go on: why it failed, what helps, and the exit code. */
import { ConfigurationError } from '../../infra/config/configuration.ts';
import { OperationRefused } from '../../operations/operation-refused.ts';
import { EXIT, type ExitCode } from './exit-code.ts';

export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  constructor(
    readonly why: string,
    readonly hint: string | null = null,
    readonly exitCode: ExitCode = EXIT.failure,
    /** What could not be done; null: what the command does. */
    readonly operation: string | null = null,
  ) {
    super(why);
  }
}

/** The failure of a command that could not do its work. */
export function failed(why: string, hint: string | null = null): CommandFailure {
  return new CommandFailure(why, hint);
}

/** The failure of a command whose flags or input are wrong: nothing has begun. */
export function misused(why: string, hint: string | null = null): CommandFailure {
  return new CommandFailure(why, hint, EXIT.usage);
}

/** The failure of a command that needs the system that `errata up` starts. */
export function notRunning(home: string): CommandFailure {
  return new CommandFailure(
    `no system of ${home} is running`,
    'Start it with `errata up`, or name a Kafka cluster with ERRATA_KAFKA_BROKERS.',
    EXIT.notRunning,
  );
}

/** Turns any error into a failure; an error's own hint is kept. */
export function failureOf(error: unknown): CommandFailure {
  if (error instanceof CommandFailure) return error;
  const message = messageOf(error);
  if (error instanceof ConfigurationError)
    return new CommandFailure(message, error.hint, EXIT.usage, 'read the configuration');
  if (error instanceof OperationRefused) return misused(message, error.hint);
  const hint =
    error instanceof Error && 'hint' in error && typeof error.hint === 'string' ? error.hint : null;
  // Several classes repeat their hint in the message.
  return failed(hint === null ? message : message.replace(hint, '').trim(), hint);
}

/** An error's reason and hint as one text. */
export function reasonOf(error: unknown): string {
  const { why, hint } = failureOf(error);
  return hint === null ? why : `${why}. ${hint}`;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
