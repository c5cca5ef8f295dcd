/** The life of a process: it reads the configuration, works until it is stopped, and drains. */
import type { Logger } from 'pino';
import { reasonAndHint, messageOf, SchemaRefused } from '../../schemas/failures.ts';
import { BaseChanged } from '../../versions/log/failures.ts';
import {
  ConfigurationError,
  readConfiguration,
  type Configuration,
} from '../config/configuration.ts';
import { onStop, tellSupervisor } from '../local/supervisor-messages.ts';
import { watchLoop, type LoopWatch } from './loop-watch.ts';
import { logTemporalTo, processLog } from './process-log.ts';

export interface ProcessContext {
  configuration: Configuration;
  log: Logger;
  /** Reports a long start-up step to the supervisor. `share` is in [0, 1]. */
  step: (label: string, share?: number) => void;
}

export interface Running {
  /** The port, if it listens. */
  port?: number;
  /** Finishes work in progress and accepts no new work. */
  stop: () => Promise<void>;
  /** Settles if the process ends unexpectedly. */
  ended?: Promise<unknown>;
}

/** Bound of the drain; the supervisor kills a little later. */
const DRAIN_WAIT_MS = 15_000;
/** Failures that a restart would repeat. */
const LASTING = [ConfigurationError, BaseChanged, SchemaRefused];

/** Runs until SIGTERM, SIGINT or the supervisor's end, then exits: 0 when drained, 1 otherwise. */
export function runProcess(
  name: string,
  start: (context: ProcessContext) => Promise<Running>,
): void {
  void run(name, start).catch((fault: unknown) => {
    const reason = reasonAndHint(fault);
    if (LASTING.some((one) => fault instanceof one)) tellSupervisor({ kind: 'refused', reason });
    processLog(name, 'info').fatal(
      { reason, stack: fault instanceof Error ? fault.stack : undefined },
      'The process cannot go on',
    );
    process.exit(1);
  });
}

async function run(
  name: string,
  start: (context: ProcessContext) => Promise<Running>,
): Promise<void> {
  const stopAsked = new Promise<string>((resolve) => onStop(resolve));
  const configuration = readConfiguration();
  const log = processLog(name, configuration.logLevel);
  for (const notice of configuration.notices) log.warn({ notice }, 'A setting is unknown');
  logTemporalTo(log);
  const step = (label: string, share?: number) =>
    tellSupervisor({
      kind: 'step',
      label,
      ...(share === undefined ? {} : { amount: share, total: 1 }),
    });
  const started = await Promise.race([start({ configuration, log, step }), stopAsked]);
  // It was not ready yet, so there is nothing to drain.
  if (typeof started === 'string') return exit(log, 0, started, null);
  const loop = watchLoop(log);
  log.info({ port: started.port ?? null }, 'Ready');
  tellSupervisor({ kind: 'ready', ...(started.port === undefined ? {} : { port: started.port }) });

  const ended = started.ended?.then(() => Promise.reject(new Error('it ended on its own')));
  const reason = await Promise.race(ended === undefined ? [stopAsked] : [stopAsked, ended]);
  log.info({ reason }, 'Stopping');
  ended?.catch(() => {});
  const drained = await Promise.race([
    started.stop().then(
      () => true,
      (fault: unknown) => (log.error({ reason: messageOf(fault) }, 'The drain failed'), false),
    ),
    new Promise<false>((resolve) => setTimeout(resolve, DRAIN_WAIT_MS, false)),
  ]);
  exit(log, drained ? 0 : 1, reason, loop);
}

function exit(log: Logger, code: number, reason: string, loop: LoopWatch | null): void {
  log.info(
    {
      code,
      reason,
      ...(loop === null ? {} : { longestLoopDelayMs: Math.round(loop.longestMs()) }),
    },
    'Stopped',
  );
  // The model's thread may still be computing a result that nobody awaits.
  process.exit(code);
}
