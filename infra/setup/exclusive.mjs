/**
 * A lock between the processes of one machine. Plain JavaScript with its types in
 * `exclusive.d.mts`, because the bootstrap needs it before any package is installed.
 *
 * The lock is a listening socket in Linux's abstract namespace. It leaves no file behind, and the
 * kernel releases it however its holder dies. A waiting process stays connected to it, and the end
 * of that connection wakes it without polling. Containers do not see each other's sockets, so
 * whatever this lock protects must be safe, if wasteful, without it.
 */
import { createHash } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** Another process may take a released lock first, and a closing holder briefly refuses. */
const RETRY_MS = 20;

export async function holdExclusively(purpose, waitMs, onWait) {
  // An abstract socket's name has room for 107 bytes; a digest of the purpose always fits.
  const address = `\0errata-${createHash('sha256').update(purpose).digest('hex').slice(0, 40)}`;
  const deadlineMs = performance.now() + waitMs;
  for (let waited = false; ; waited = true) {
    const release = await listen(address);
    if (release !== undefined) return { release };
    if (!waited) onWait?.();
    const leftMs = deadlineMs - performance.now();
    if (leftMs <= 0) throw new ExclusiveTimeout(purpose, waitMs);
    await holderGone(address, leftMs);
  }
}

export class ExclusiveTimeout extends Error {
  constructor(purpose, waitMs) {
    super(`Waited ${waitMs / 1000} s for another process that holds: ${purpose}. Does it hang?`);
    this.name = 'ExclusiveTimeout';
    this.purpose = purpose;
    this.waitMs = waitMs;
  }
}

/** Resolves to a function that releases the lock, or to undefined if another process holds it. */
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
