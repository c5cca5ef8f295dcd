import { createServer, type AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { listeningOn } from './listening.ts';

it.each([
  ['127.0.0.1', '127.0.0.1'],
  ['0.0.0.0', '0.0.0.0'],
  ['127.0.0.2', '127.0.0.2'],
  ['::', '::'],
  ['::ffff:127.0.0.1', '127.0.0.1'],
])('a process that listens on %s is found there', async (host, told) => {
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) =>
      server.once('error', reject).listen({ port: 0, host }, resolve),
    );
  } catch (fault) {
    // A machine without IPv6 cannot show this.
    if (
      ['EAFNOSUPPORT', 'EADDRNOTAVAIL'].includes((fault as NodeJS.ErrnoException).code ?? '') &&
      host.startsWith('::')
    )
      return;
    throw fault;
  }
  try {
    expect(listeningOn(process.pid)).toContain(`${told}:${(server.address() as AddressInfo).port}`);
  } finally {
    server.close();
  }
});
