/**
 * A lock between processes of one machine, for work that two of them must not do at the same time.
 * Plain JavaScript, because the bootstrap needs it before any package is there; its types are in
 * `exclusive.d.mts`.
 *
 * It is a listening socket in Linux's abstract namespace: it has no file that could be left behind,
 * and the kernel lets go of it when its holder dies, however it dies. Who waits holds a connection
 * to it, so that the end of the holder wakes them without polling. Processes in different
 * containers do not see each other's sockets: what this protects must be safe without it, and
 * merely wasteful.
 */
import { createHash } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

export async function holdExclusively(purpose, waitMs, onWait) {
  // The name of an abstract socket has room for 107 bytes: a digest of the purpose always fits.
  const address = `\0errata-${createHash('sha256').update(purpose).digest('hex').slice(0, 40)}`;
  const deadlineMs = performance.now() + waitMs;
  let waited = false;
  for (;;) {
    const release = await listen(address);
    if (release !== undefined) return { release };
    if (!waited) onWait?.();
    waited = true;
    const leftMs = deadlineMs - performance.now();
    if (leftMs <= 0) throw new ExclusiveTimeout(purpose, waitMs);
    await holderGone(address, leftMs);
  }
}

export class ExclusiveTimeout extends Error {
  constructor(purpose, waitMs) {
    super(
      `Waited ${waitMs / 1000} s for another process that is busy with: ${purpose}. Is one hanging?`,
    );
    this.name = 'ExclusiveTimeout';
    this.purpose = purpose;
    this.waitMs = waitMs;
  }
}

/**
 * Between finding no holder and listening, somebody else may; and a holder that is closing refuses
 * for a moment.
 */
const RETRY_MS = 20;

/** Resolves to what lets go again; to undefined where somebody else listens. */
function listen(address) {
  return new Promise((resolve, reject) => {
    const waiting = new Set();
    const server = createServer((socket) => {
      waiting.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => waiting.delete(socket));
    });
    server.once('error', (error) => {
      if (error.code === 'EADDRINUSE') resolve(undefined);
      else reject(error);
    });
    const release = () =>
      new Promise((done) => {
        server.close(() => done());
        for (const socket of waiting) socket.destroy();
      });
    server.listen(address, () => resolve(release));
  });
}

async function holderGone(address, waitMs) {
  await new Promise((resolve) => {
    const socket = connect(address);
    const timer = setTimeout(() => socket.destroy(), waitMs);
    socket.on('error', () => {});
    socket.resume();
    socket.on('close', () => {
      clearTimeout(timer);
      resolve();
    });
  });
  await delay(RETRY_MS);
}
