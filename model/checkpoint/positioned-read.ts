import { open, type FileHandle } from 'node:fs/promises';
import { boundedJson, UnsoundJson, type JsonLimits } from '../../schemas/encoding/bounded-json.ts';
import { UnreadableCheckpoint } from './faults.ts';

/**
 * Fills `into` from byte `at` of the file; throws UnreadableCheckpoint where the file ends before.
 */
export async function readAt(
  file: FileHandle,
  path: string,
  into: Uint8Array,
  at: number,
): Promise<void> {
  for (let done = 0; done < into.length;) {
    const { bytesRead } = await file.read(into, done, into.length - done, at + done);
    if (bytesRead === 0) {
      throw new UnreadableCheckpoint(
        `${path} ends at byte ${at + done}, before byte ${at + into.length}`,
        { path, endsAt: at + done, needed: at + into.length },
        'It became shorter while it was read: fetch it again',
      );
    }
    done += bytesRead;
  }
}

/**
 * Opens a file of a checkpoint; throws UnreadableCheckpoint where it cannot be opened or is no
 * file.
 */
export async function openFile(path: string): Promise<FileHandle> {
  const file = await open(path, 'r').catch((cause: unknown) => {
    throw new UnreadableCheckpoint(
      `${path} cannot be opened`,
      { path },
      'Check the path and the rights',
      { cause },
    );
  });
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw new UnreadableCheckpoint(`${path} is no file`, { path }, 'Fetch the model again');
}

/**
 * The object in a JSON file of at most so many bytes, which are counted before they are read;
 * throws UnreadableCheckpoint.
 */
export async function readJsonObject(
  path: string,
  bytesMax: number,
  limits: JsonLimits,
): Promise<Record<string, unknown>> {
  const file = await openFile(path);
  try {
    const { size } = await file.stat();
    if (size > bytesMax)
      throw new UnreadableCheckpoint(
        `${path} has ${size} bytes`,
        { path, bytes: size },
        `The most allowed is ${bytesMax}`,
      );
    const bytes = new Uint8Array(size);
    await readAt(file, path, bytes, 0);
    const value = boundedJson(bytes, limits);
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new UnsoundJson('it is no JSON object');
    return value as Record<string, unknown>;
  } catch (cause) {
    if (!(cause instanceof UnsoundJson)) throw cause;
    throw new UnreadableCheckpoint(
      `${path} is unsound: ${cause.reason}`,
      { path },
      'Fetch the file again',
      { cause },
    );
  } finally {
    await file.close();
  }
}
