/**
 * Proxies that terminate TLS in front of a real Temporal server: one requires client certificates,
 * the other an API key.
 */
import http2 from 'node:http2';
import net, { type AddressInfo, type Server, type Socket } from 'node:net';
import tls from 'node:tls';
import { afterwards } from '../clean-up.ts';
import type { Authority } from './certificates.ts';

export interface Gate {
  /** `localhost:port`. */
  readonly address: string;
  /** Number of connections or calls admitted. */
  admitted: number;
  /** Number of connections or calls, admitted or not. */
  calls: number;
}

/** Admits clients with a certificate of the authority (mTLS). */
export async function certificateGate(address: string, authority: Authority): Promise<Gate> {
  const [host, port] = address.split(':') as [string, string];
  const { certificate, key } = authority.certify('localhost');
  const counts = { admitted: 0, calls: 0 };
  const options: tls.TlsOptions = {
    cert: certificate,
    key,
    ca: authority.certificate,
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: ['h2'],
  };
  const server = tls.createServer(options, (outside) => {
    counts.admitted++;
    const inside = net.connect(Number(port), host);
    outside.pipe(inside).pipe(outside);
    outside.on('error', () => inside.destroy());
    inside.on('error', () => outside.destroy());
    outside.on('close', () => inside.destroy());
  });
  server.on('tlsClientError', () => undefined);
  server.on('connection', () => counts.calls++);
  return await opened(server, counts);
}

/** Admits calls with `authorization: Bearer <key>`, and refuses others as Temporal Cloud does. */
export async function keyGate(
  address: string,
  authority: Authority,
  apiKey: string,
): Promise<Gate> {
  const { certificate, key } = authority.certify('localhost');
  const counts = { admitted: 0, calls: 0 };
  const server = http2.createSecureServer({ cert: certificate, key });
  server.on('session', (session) => {
    const inside = http2.connect(`http://${address}`);
    inside.on('error', () => session.destroy());
    session.on('close', () => inside.destroy());
    session.on('error', () => inside.destroy());
    session.on('stream', (stream, headers) => {
      counts.calls++;
      if (headers['authorization'] !== `Bearer ${apiKey}`)
        return stream.respond(UNAUTHORIZED, { endStream: true });
      counts.admitted++;
      passOn(stream, inside, headers);
    });
  });
  return await opened(server, counts);
}

const UNAUTHORIZED = {
  ':status': 200,
  'content-type': 'application/grpc',
  'grpc-status': '16',
  'grpc-message': 'Request unauthorized.',
};

function passOn(
  stream: http2.ServerHttp2Stream,
  inside: http2.ClientHttp2Session,
  headers: http2.IncomingHttpHeaders,
): void {
  const { authorization: _, ...others } = headers;
  const call = inside.request({ ...others, ':scheme': 'http' });
  let trailers: http2.IncomingHttpHeaders = {};
  call.on('response', (response, flags) => {
    const over = (flags & http2.constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    if (stream.destroyed) return;
    stream.respond(response, over ? { endStream: true } : { waitForTrailers: true });
    if (over) return;
    call.on('data', (piece: Buffer) => stream.write(piece));
    call.on('end', () => stream.end());
  });
  call.on('trailers', (last: http2.IncomingHttpHeaders) => (trailers = last));
  stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  stream.on('error', () => call.close(http2.constants.NGHTTP2_CANCEL));
  stream.on('aborted', () => call.close(http2.constants.NGHTTP2_CANCEL));
  call.on('error', () => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR));
  stream.pipe(call);
}

async function opened(server: Server, counts: Pick<Gate, 'admitted' | 'calls'>): Promise<Gate> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  afterwards(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<unknown>((resolve) => void server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return Object.assign(counts, { address: `localhost:${port}` });
}
