/** A command that cannot go on: why it failed, what helps, and the exit code. */
import { ConfigurationError } from '../../infra/config/configuration.ts';
import { OperationRefused } from '../../operations/operation-refused.ts';
import { EXIT, type ExitCode } from './exit-code.ts';

export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  constructor(
    /** Empty: the operation of the command that fails. */
    readonly operation: string,
    readonly why: string,
    readonly mend: string | null = null,
    readonly exitCode: ExitCode = EXIT.failure,
  ) {
    super(why);
  }
}

/** The failure of a command that could not do its work. */
export function failed(why: string, hint: string | null = null): CommandFailure {
  return new CommandFailure('', why, hint);
}

/** The failure of a command whose flags or input are wrong: nothing has begun. */
export function misused(why: string, hint: string | null = null): CommandFailure {
  return new CommandFailure('', why, hint, EXIT.usage);
}

/** The failure of a command that needs the system that `errata up` starts. */
export function notRunning(home: string): CommandFailure {
  return new CommandFailure(
    '',
    `no system of ${home} is running`,
    'Start it with `errata up`, or name a Kafka cluster with ERRATA_KAFKA_BROKERS.',
    EXIT.notRunning,
  );
}

/** Turns any error into a failure of the operation; an error's own hint is kept. */
export function failureOf(operation: string, error: unknown): CommandFailure {
  if (error instanceof CommandFailure)
    return error.operation === ''
      ? new CommandFailure(operation, error.why, error.mend, error.exitCode)
      : error;
  if (error instanceof ConfigurationError)
    return new CommandFailure('read the configuration', error.message, error.hint, EXIT.usage);
  if (error instanceof OperationRefused)
    return new CommandFailure(operation, error.message, error.hint, EXIT.usage);
  const message = messageOf(error);
  const hint =
    error instanceof Error && 'hint' in error && typeof error.hint === 'string' ? error.hint : null;
  // Several classes repeat their hint in the message.
  const why = hint === null ? message : message.replace(hint, '').trim();
  return new CommandFailure(operation, why, hint);
}

/** An error's reason and hint as one text. */
export function reasonOf(error: unknown): string {
  const { why, mend } = failureOf('', error);
  return mend === null ? why : `${why}. ${mend}`;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
