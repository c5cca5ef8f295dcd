/** A process's log on standard output: one JSON object per line with a constant message. */
import { DefaultLogger, Runtime } from '@temporalio/worker';
import { pino, type Logger } from 'pino';
import { messageOf } from '../../schemas/failures.ts';
import type { LogLevel } from '../config/configuration.ts';

export function processLog(name: string, level: LogLevel): Logger {
  // Synchronous, so that a killed process loses no line and lines keep their order.
  return pino(
    { name, level, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 1, sync: true }),
  );
}

/** Redirects the log of Temporal's SDK. Call it once, before the first connection. */
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
      log[levels[level]](
        { ...meta, error: undefined, reason: meta?.['error'] && messageOf(meta['error']) },
        message,
      ),
    ),
    // This process has its own shutdown order; the SDK must not react to signals.
    shutdownSignals: [],
  });
}
