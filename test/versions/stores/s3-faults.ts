/** Servers that do to the S3 client what servers and networks rarely do. */
import {
  createServer,
  request,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';

interface End {
  url: string;
  seen: number;
}

const listening: Server[] = [];

export function closeServers(): void {
  for (const server of listening.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
}

export async function served(
  answer: (incoming: IncomingMessage, response: ServerResponse) => void,
  tls?: { cert: string; key: string },
): Promise<End> {
  const end = tls === undefined ? createServer(answer) : createSecureServer(tls, answer);
  listening.push(end);
  await new Promise<void>((resolve) => end.listen(0, '127.0.0.1', resolve));
  return {
    url: `${tls === undefined ? 'http://127.0.0.1' : 'https://localhost'}:${(end.address() as AddressInfo).port}`,
    seen: 0,
  };
}

type Forward = (hook?: { answered: () => void }) => Promise<void>;

/**
 * Starts a proxy of the server that may answer itself or lose the answer. Signatures stay valid,
 * since the requested host is passed on.
 */
export async function inFront(
  url: string,
  answer: (incoming: IncomingMessage, response: ServerResponse, forward: Forward) => Promise<void>,
): Promise<End> {
  return await served(
    (incoming, response) =>
      void answer(
        incoming,
        response,
        async (hook) => await forwarded(url, incoming, response, hook),
      ).catch(() => response.destroy()),
  );
}

export async function forwarded(
  url: string,
  incoming: IncomingMessage,
  response: ServerResponse,
  hook?: { answered: () => void },
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const onward = request(
      `${url}${incoming.url}`,
      { method: incoming.method!, headers: incoming.headers },
      (answered) => {
        if (hook === undefined) {
          response.writeHead(answered.statusCode!, answered.headers);
          answered.pipe(response).on('finish', resolve);
        } else {
          answered.resume().on('end', () => {
            hook.answered();
            resolve();
          });
        }
      },
    );
    onward.on('error', reject);
    incoming.pipe(onward);
  });
}

/** Serves just enough S3, but overwrites objects: always, or only when two writers race. */
export async function lookAlike(racing: boolean): Promise<End & { objects: Map<string, Buffer> }> {
  const objects = new Map<string, Buffer>();
  let looking = 0;
  let everybodyLooked: () => void = () => undefined;
  const looked = new Promise<void>((resolve) => (everybodyLooked = resolve));
  const end = await served((incoming, response) => {
    const name = incoming.url!.split('?')[0]!;
    const pieces: Buffer[] = [];
    incoming.on('data', (piece: Buffer) => pieces.push(piece));
    incoming.on('end', () => {
      void (async () => {
        if (incoming.method === 'GET') {
          const object = objects.get(name);
          return object === undefined
            ? refuse(response, 404, 'NoSuchKey')
            : void response.writeHead(200, { 'content-length': object.byteLength }).end(object);
        }
        if (racing && objects.has(name)) return refuse(response, 412, 'PreconditionFailed');
        looking += 1;
        if (looking === 2 || !racing) everybodyLooked();
        await looked;
        objects.set(name, Buffer.concat(pieces));
        response.writeHead(200, { etag: '"0"', 'content-length': 0 }).end();
      })();
    });
  });
  return Object.assign(end, { objects });
}

export function isPutOf(name: string, { method, url }: IncomingMessage): boolean {
  return method === 'PUT' && url!.split('?')[0]!.endsWith(`/${name}`);
}

export function refuse(response: ServerResponse, status: number, code: string): void {
  response
    .writeHead(status, { 'content-type': 'application/xml' })
    .end(
      `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code>` +
        '<Message>made by the test</Message></Error>',
    );
}
