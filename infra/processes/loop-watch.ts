/**
 * How long the event loop of this process was ever held up. Heartbeats to Temporal and Kafka flow
 * only while it turns, so nothing may hold it for over a second; a process that is held up says so.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Logger } from 'pino';

export const LOOP_DELAY_MAX_MS = 1_000;
const RESOLUTION_MS = 20;
const LOOKED_AT_EVERY_MS = 5_000;

export interface LoopWatch {
  /** The longest delay since the watch began, in milliseconds. */
  longestMs(): number;
}

/** Watches from now on, and warns of each stretch in which the loop was held for too long. */
export function watchLoop(log: Logger): LoopWatch {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  let longest = 0;
  const look = () => {
    const stretch = delay.count === 0 ? 0 : delay.max / 1e6;
    delay.reset();
    longest = Math.max(longest, stretch);
    return stretch;
  };
  setInterval(() => {
    const stretch = look();
    if (stretch > LOOP_DELAY_MAX_MS)
      log.warn(
        { delayMs: Math.round(stretch), delayMaxMs: LOOP_DELAY_MAX_MS },
        'The event loop was held up',
      );
  }, LOOKED_AT_EVERY_MS).unref();
  return {
    longestMs() {
      look();
      return longest;
    },
  };
}
