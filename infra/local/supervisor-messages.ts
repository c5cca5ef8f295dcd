/**
 * Messages from a process to the supervisor that started it. A process without a supervisor (in
 * production, on a container platform) sends none and otherwise works the same.
 */

export type SupervisorMessage =
  /** It is working, and listens on `port` if given. */
  | { kind: 'ready'; port?: number }
  /** It is in a long start-up step; `amount` of `total` is done, if known. */
  | { kind: 'step'; label: string; amount?: number; total?: number }
  /** It cannot start, and a retry would fail too: its configuration is wrong. */
  | { kind: 'refused'; reason: string };

export function tellSupervisor(message: SupervisorMessage): void {
  if (process.connected === true) process.send?.(message, undefined, undefined, () => {});
}

/**
 * Calls `stop` once, on SIGTERM, on SIGINT, or when the supervisor is gone. A process that outlives
 * its supervisor would compete with the next supervisor's processes.
 */
export function onStop(stop: (reason: 'signal' | 'supervisor-gone') => void): void {
  let stopped = false;
  const once = (reason: 'signal' | 'supervisor-gone') => () => {
    if (!stopped) stop(reason);
    stopped = true;
  };
  process.on('SIGTERM', once('signal'));
  process.on('SIGINT', once('signal'));
  if (process.send !== undefined) process.once('disconnect', once('supervisor-gone'));
}
