/**
 * The messages between a process and the supervisor that started it. A process without a supervisor
 * (in production, under a container platform) sends none, and works the same otherwise.
 */

export type SupervisorMessage =
  /** It works from now on, and listens on `port` if that is given. */
  | { kind: 'ready'; port?: number }
  /** It is in a long step of its start; `amount` of `total` is done, if known. */
  | { kind: 'step'; label: string; amount?: number; total?: number }
  /** It cannot start, and could not the next time: its configuration is wrong. */
  | { kind: 'refused'; reason: string };

export function tellSupervisor(message: SupervisorMessage): void {
  if (process.connected === true) process.send?.(message, undefined, undefined, () => {});
}

/**
 * Calls `stop` once, on SIGTERM, on SIGINT, or when the supervisor is gone: a process that outlives
 * its supervisor would compete with its successor's.
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
