/**
 * A command that cannot go on, as its user reads it: what was being done, why it failed, what mends
 * it.
 */
import { ConfigurationError } from '../../infra/config/configuration.ts';
import { OperationRefused } from '../../operations/operation-refused.ts';
import { EXIT, type ExitCode } from '../terminal/exit-code.ts';

export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  constructor(
    readonly operation: string,
    readonly why: string,
    readonly mend: string | null = null,
    readonly exitCode: ExitCode = EXIT.failure,
  ) {
    super(`${operation}: ${why}`);
  }
}

/** The failure for a command that needs what `errata up` runs. */
export function notRunning(operation: string, home: string): CommandFailure {
  return new CommandFailure(
    operation,
    `no system of ${home} is running`,
    'Start it with `errata up` (or name a Kafka cluster with ERRATA_KAFKA_BROKERS).',
    EXIT.notRunning,
  );
}

/** Any error as a failure of the operation. Classes that bring a hint keep it. */
export function failureOf(operation: string, error: unknown): CommandFailure {
  if (error instanceof CommandFailure) return error;
  if (error instanceof ConfigurationError)
    return new CommandFailure('read the configuration', error.message, error.hint, EXIT.usage);
  if (error instanceof OperationRefused)
    return new CommandFailure(operation, error.message, error.hint, EXIT.usage);
  const message = error instanceof Error ? error.message : String(error);
  const hint =
    error instanceof Error && 'hint' in error && typeof error.hint === 'string' ? error.hint : null;
  // Several classes put their hint into the message as well.
  return new CommandFailure(
    operation,
    hint === null ? message : message.replace(hint, '').trim(),
    hint,
  );
}
