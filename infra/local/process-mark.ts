/**
 * The identity of a process on this machine. The kernel reuses pids, so a mark also carries the
 * process's start time and boot id.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';

export const processMark = z.object({
  pid: z.number().int().positive(),
  /** Clock ticks from boot to process start. */
  startTicks: z.string(),
  bootId: z.string(),
});
export type ProcessMark = z.infer<typeof processMark>;

const ENDED_PROBE_MS = 25;
const KILL_WAIT_MS = 10_000;

/** Returns the mark of a running process; null if it is not running. */
export function markOf(pid: number): ProcessMark | null {
  let stat: string;
  let threads: number;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    threads = readdirSync(`/proc/${pid}/task`).length;
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
  // The second field is the command in parentheses and may contain spaces: count from the last
  // parenthesis.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, startTicks] = [fields[0], fields[19]];
  // Threads that outlive the first one still hold the process's ports and files.
  const dead = (state === 'Z' || state === 'X') && threads <= 1;
  if (startTicks === undefined || dead) return null;
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return { pid, startTicks, bootId };
}

export function isRunning(mark: ProcessMark | null): boolean {
  if (mark === null) return false;
  const found = markOf(mark.pid);
  return found?.startTicks === mark.startTicks && found.bootId === mark.bootId;
}

/**
 * Ends a process, which need not be a child: SIGTERM, then SIGKILL after `waitMs`. Resolves to true
 * if it ended.
 */
export async function endProcess(mark: ProcessMark, waitMs: number): Promise<boolean> {
  if (waitMs > 0) {
    signal(mark, 'SIGTERM');
    if (await ended(mark, waitMs)) return true;
  }
  signal(mark, 'SIGKILL');
  return ended(mark, KILL_WAIT_MS);
}

async function ended(mark: ProcessMark, waitMs: number): Promise<boolean> {
  const deadlineMs = performance.now() + waitMs;
  while (isRunning(mark)) {
    if (performance.now() >= deadlineMs) return false;
    await delay(ENDED_PROBE_MS);
  }
  return true;
}

function signal(mark: ProcessMark, name: NodeJS.Signals): void {
  if (!isRunning(mark)) return;
  try {
    process.kill(mark.pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
