import { open, type FileHandle } from 'node:fs/promises';
import { boundedJson, UnsoundJson, type JsonLimits } from '../../schemas/encoding/bounded-json.ts';
import { UnreadableCheckpoint } from './faults.ts';

export interface OpenFile {
  path: string;
  bytes: number;
  handle: FileHandle;
}

/** Throws UnreadableCheckpoint if the path is not a file that can be opened. */
export async function openFile(path: string): Promise<OpenFile> {
  const handle = await open(path, 'r').catch((cause: unknown) => {
    throw new UnreadableCheckpoint(path, 'cannot be opened', 'Check the path and the rights', {
      cause,
    });
  });
  const found = await handle.stat();
  if (found.isFile()) return { path, bytes: found.size, handle };
  await handle.close();
  throw new UnreadableCheckpoint(path, 'not a file', 'Fetch the model again');
}

/** Fills `into` from byte `at` of the file; throws UnreadableCheckpoint if the file ends early. */
export async function readAt(file: OpenFile, into: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < into.length;) {
    const { bytesRead } = await file.handle.read(into, done, into.length - done, at + done);
    if (bytesRead === 0)
      throw new UnreadableCheckpoint(
        file.path,
        `ends at byte ${at + done}, before byte ${at + into.length}`,
        'It shrank while it was read: fetch it again',
      );
    done += bytesRead;
  }
}

/** Reads a JSON file with one object of bounded size. Throws UnreadableCheckpoint. */
export async function readJsonObject(
  path: string,
  { bytesMax, ...limits }: JsonLimits & { bytesMax: number },
): Promise<Record<string, unknown>> {
  const file = await openFile(path);
  try {
    if (file.bytes > bytesMax)
      throw new UnreadableCheckpoint(path, `${file.bytes} bytes`, `At most ${bytesMax} are read`);
    const bytes = new Uint8Array(file.bytes);
    await readAt(file, bytes, 0);
    const value = boundedJson(bytes, limits);
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new UnsoundJson('it is not a JSON object');
    return value as Record<string, unknown>;
  } catch (cause) {
    if (!(cause instanceof UnsoundJson)) throw cause;
    throw new UnreadableCheckpoint(path, cause.reason, 'Fetch the file again', { cause });
  } finally {
    await file.handle.close();
  }
}
