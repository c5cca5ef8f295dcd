/** The failure of a command: its reason, a hint and the exit code. */
import { ConfigurationError } from '../../infra/config/configuration.ts';
import { OperationRefused } from '../../operations/operation-refused.ts';
import { EXIT, type ExitCode } from './exit-code.ts';

export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  constructor(
    readonly why: string,
    readonly hint: string | null = null,
    readonly exitCode: ExitCode = EXIT.failure,
    /** The action that failed; null for the command's own. */
    readonly operation: string | null = null,
  ) {
    super(why);
  }
}

export function failed(why: string, hint: string | null = null): CommandFailure {
  return new CommandFailure(why, hint);
}

/** Makes the failure of a command with wrong flags or input: nothing has begun. */
export function misused(why: string, hint: string | null = null): CommandFailure {
  return new CommandFailure(why, hint, EXIT.usage);
}

/** Makes the failure of a command that needs the system started by `errata up`. */
export function notRunning(home: string): CommandFailure {
  return new CommandFailure(
    `no system of ${home} is running`,
    'Start it with `errata up`, or name a Kafka cluster with ERRATA_KAFKA_BROKERS.',
    EXIT.notRunning,
  );
}

/** Turns any error into a failure, keeping the error's own hint. */
export function failureOf(error: unknown): CommandFailure {
  if (error instanceof CommandFailure) return error;
  const message = messageOf(error);
  if (error instanceof ConfigurationError)
    return new CommandFailure(message, error.hint, EXIT.usage, 'read the configuration');
  if (error instanceof OperationRefused) return misused(message, error.hint);
  const hint =
    error instanceof Error && 'hint' in error && typeof error.hint === 'string' ? error.hint : null;
  // Several error classes repeat their hint in the message.
  return failed(hint === null ? message : message.replace(hint, '').trim(), hint);
}

export function reasonOf(error: unknown): string {
  const { why, hint } = failureOf(error);
  return hint === null ? why : `${why}. ${hint}`;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
