/** One invocation of the command line in this process, with its own data folder. */
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { main } from '../../cli/main.ts';
import type { Surroundings } from '../../cli/terminal/output.ts';

export interface Invocation {
  code: number;
  out: string;
  err: string;
}

/** Runs one command; a string is split at spaces. */
export async function invoke(
  folder: string,
  args: string | string[],
  environment: NodeJS.ProcessEnv = {},
  input: string | Readable = '',
): Promise<Invocation> {
  const out = new PassThrough();
  const err = new PassThrough();
  const surroundings: Surroundings = {
    in: typeof input === 'string' ? Readable.from([Buffer.from(input)]) : input,
    out,
    err,
    environment: { ERRATA_HOME: join(folder, 'home'), ...environment },
    workingDirectory: folder,
  };
  const code = await main(typeof args === 'string' ? args.split(' ') : args, surroundings);
  return { code, out: written(out), err: written(err) };
}

/** Reads everything piece by piece: from Node 26 on, one read returns one piece. */
function written(stream: PassThrough): string {
  let text = '';
  for (let piece: Buffer | null; (piece = stream.read() as Buffer | null) !== null;)
    text += piece.toString();
  return text;
}
