/**
 * A lock between processes of one machine, for work that two of them must not do at the same time.
 *
 * It is a listening socket in Linux's abstract namespace: it has no file that could be left behind, and the kernel lets
 * go of it when its holder dies, however it dies. Who waits holds a connection to it, so that the end of the holder
 * wakes them without polling. Processes in different containers do not see each other's sockets: what this protects
 * must be safe without it, and merely wasteful.
 */
import { createHash } from 'node:crypto';
import { connect, createServer, type Server } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** Held until `release`. */
export interface Exclusive {
  release(): Promise<void>;
}

/** The lock did not come free within its bound. */
export class ExclusiveTimeout extends Error {
  override readonly name = 'ExclusiveTimeout';
  constructor(
    readonly purpose: string,
    readonly waitMs: number,
  ) {
    super(`Waited ${waitMs / 1000} s for another process that is busy with: ${purpose}. Is one hanging?`);
  }
}

/**
 * Takes the lock called `purpose`, waiting up to `waitMs` for whoever holds it. `onWait` is called once if there is
 * somebody to wait for. Throws `ExclusiveTimeout`.
 */
export async function holdExclusively(
  purpose: string,
  waitMs: number,
  onWait?: () => void,
): Promise<Exclusive> {
  // The name of an abstract socket has room for 107 bytes: a digest of the purpose always fits.
  const address = `\0errata-${createHash('sha256').update(purpose).digest('hex').slice(0, 40)}`;
  const deadlineMs = performance.now() + waitMs;
  let waited = false;
  for (;;) {
    const server = await listen(address);
    if (server !== undefined) return { release: () => close(server) };
    if (!waited) onWait?.();
    waited = true;
    const leftMs = deadlineMs - performance.now();
    if (leftMs <= 0) throw new ExclusiveTimeout(purpose, waitMs);
    await holderGone(address, leftMs);
  }
}

/** Between finding no holder and listening, somebody else may; and a holder that is closing refuses for a moment. */
const RETRY_MS = 20;

const openConnections = new WeakMap<Server, Set<import('node:net').Socket>>();

function listen(address: string): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const connections = new Set<import('node:net').Socket>();
    const server = createServer((socket) => {
      connections.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => connections.delete(socket));
    });
    openConnections.set(server, connections);
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(undefined);
      else reject(error);
    });
    server.listen(address, () => {
      resolve(server);
    });
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => {
      resolve();
    });
    for (const socket of openConnections.get(server) ?? []) socket.destroy();
  });
}

async function holderGone(address: string, waitMs: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const socket = connect(address);
    const timer = setTimeout(() => {
      socket.destroy();
    }, waitMs);
    socket.on('error', () => {});
    socket.resume();
    socket.on('close', () => {
      clearTimeout(timer);
      resolve();
    });
  });
  await delay(RETRY_MS);
}
