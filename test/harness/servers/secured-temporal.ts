/**
 * What stands in front of Temporal where others run it, before the real server, which asks for
 * nothing: an end of TLS that asks for client certificates, and one that asks for an API key.
 */
import http2 from 'node:http2';
import net, { type AddressInfo, type Server, type Socket } from 'node:net';
import tls from 'node:tls';
import type { Authority } from './certificates.ts';

export interface Gate {
  /** `localhost:port`. */
  readonly address: string;
  /** How many connections or calls it let in. */
  readonly letIn: () => number;
  /** How many came, let in or not. */
  readonly calls: () => number;
  close(): Promise<void>;
}

/** Lets in who has a certificate of the authority (mTLS). */
export async function certificateGate(server: string, authority: Authority): Promise<Gate> {
  const [host, port] = [server.split(':')[0]!, Number(server.split(':')[1])];
  const { certificate, key } = authority.certify('localhost');
  let count = 0;
  let came = 0;
  const gate = tls.createServer(
    {
      cert: certificate,
      key,
      ca: authority.certificate,
      requestCert: true,
      rejectUnauthorized: true,
      ALPNProtocols: ['h2'],
    },
    (outside) => {
      count++;
      const inside = net.connect(port, host);
      outside.pipe(inside).pipe(outside);
      outside.on('error', () => inside.destroy());
      inside.on('error', () => outside.destroy());
      outside.on('close', () => inside.destroy());
    },
  );
  gate.on('tlsClientError', () => undefined);
  gate.on('connection', () => came++);
  return await opened(
    gate,
    () => count,
    () => came,
  );
}

/**
 * Lets in calls that bear `authorization: Bearer <key>`, over TLS; others are answered as Temporal
 * Cloud does.
 */
export async function keyGate(server: string, authority: Authority, apiKey: string): Promise<Gate> {
  const { certificate, key } = authority.certify('localhost');
  let count = 0;
  let came = 0;
  const gate = http2.createSecureServer({ cert: certificate, key });
  gate.on('session', (session) => {
    const inside = http2.connect(`http://${server}`);
    inside.on('error', () => session.destroy());
    session.on('close', () => inside.destroy());
    session.on('error', () => inside.destroy());
    session.on('stream', (stream, headers) => {
      came++;
      if (headers['authorization'] !== `Bearer ${apiKey}`) {
        stream.respond(
          {
            ':status': 200,
            'content-type': 'application/grpc',
            'grpc-status': '16',
            'grpc-message': 'Request unauthorized.',
          },
          { endStream: true },
        );
        return;
      }
      count++;
      passOn(stream, inside, headers);
    });
  });
  return await opened(
    gate,
    () => count,
    () => came,
  );
}

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

async function opened(gate: Server, letIn: () => number, calls: () => number): Promise<Gate> {
  const sockets = new Set<Socket>();
  gate.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => gate.listen(0, '127.0.0.1', resolve));
  return {
    address: `localhost:${(gate.address() as AddressInfo).port}`,
    letIn,
    calls,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<unknown>((resolve) => void gate.close(resolve));
    },
  };
}
