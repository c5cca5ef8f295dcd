/**
 * Measures how long this process's event loop was blocked. Heartbeats to Temporal and Kafka need
 * the loop, so nothing may block it for over a second. Longer blocks are logged.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Logger } from 'pino';

export const LOOP_DELAY_MAX_MS = 1_000;
const RESOLUTION_MS = 20;
const LOOK_EVERY_MS = 5_000;

export interface LoopWatch {
  /** The longest delay since the watch began, in milliseconds. */
  longestMs(): number;
}

/** Starts watching, and logs each interval in which the loop was blocked for too long. */
export function watchLoop(log: Logger): LoopWatch {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  let longest = 0;
  const look = () => {
    const intervalMaxMs = delay.count === 0 ? 0 : delay.max / 1e6;
    delay.reset();
    longest = Math.max(longest, intervalMaxMs);
    return intervalMaxMs;
  };
  setInterval(() => {
    const intervalMaxMs = look();
    if (intervalMaxMs > LOOP_DELAY_MAX_MS)
      log.warn(
        { delayMs: Math.round(intervalMaxMs), delayMaxMs: LOOP_DELAY_MAX_MS },
        'The event loop was blocked',
      );
  }, LOOK_EVERY_MS).unref();
  return {
    longestMs() {
      look();
      return longest;
    },
  };
}
