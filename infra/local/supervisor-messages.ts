/**
 * What a process tells the supervisor that started it. A process that nobody supervises (in
 * production, under a container platform) announces to no one, and nothing else changes.
 */

export type Announcement =
  /** Does its work from now on. `port` is where it listens, if it does. */
  | { kind: 'ready'; port?: number }
  /** In a long step of its start. `amount` of `total`, where they are known. */
  | { kind: 'step'; label: string; amount?: number; total?: number }
  /**
   * Cannot start, and would not the next time either: a wrong configuration, not a broken
   * connection.
   */
  | { kind: 'refused'; reason: string };

export function announce(announcement: Announcement): void {
  if (process.connected === true) process.send?.(announcement, undefined, undefined, () => {});
}

/**
 * Calls `stop` once, on SIGTERM, SIGINT, or when the supervisor is gone. A process of ours that
 * outlives its supervisor would compete with its successor's.
 */
export function onStop(stop: (reason: 'signal' | 'supervisor-gone') => void): void {
  let stopped = false;
  const once = (reason: 'signal' | 'supervisor-gone') => () => {
    if (stopped) return;
    stopped = true;
    stop(reason);
  };
  process.on('SIGTERM', once('signal'));
  process.on('SIGINT', once('signal'));
  if (process.send !== undefined) process.once('disconnect', once('supervisor-gone'));
}
