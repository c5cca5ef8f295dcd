/**
 * The log of a process: one JSON object per line on standard output, a constant message and its
 * fields.
 */
import { DefaultLogger, Runtime } from '@temporalio/worker';
import { inspect } from 'node:util';
import { pino, type Logger } from 'pino';
import type { LogLevel } from '../config/configuration.ts';

export function processLog(name: string, level: LogLevel): Logger {
  // Written at once: a line must not be lost with a process that is killed, nor come after those
  // that follow it.
  return pino(
    { name, level, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 1, sync: true }),
  );
}

/** Has Temporal's SDK and core log there too. Once per process, before the first connection. */
export function logTemporalTo(log: Logger): void {
  const levels = {
    TRACE: 'trace',
    DEBUG: 'debug',
    INFO: 'info',
    WARN: 'warn',
    ERROR: 'error',
  } as const;
  Runtime.install({
    logger: new DefaultLogger('INFO', ({ level, message, meta }) =>
      log[levels[level]]({ ...meta, error: undefined, reason: reasonOf(meta?.['error']) }, message),
    ),
    // The process ends by its own order of steps, not when a signal tells the SDK to.
    shutdownSignals: [],
  });
}

export function reasonOf(fault: unknown): string | undefined {
  return fault === undefined ? undefined : fault instanceof Error ? fault.message : inspect(fault);
}
