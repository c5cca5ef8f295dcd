import type { FileHandle } from 'node:fs/promises';
import { UnreadableCheckpoint } from './faults.ts';

/** Fills `into` from byte `at` of the file; throws UnreadableCheckpoint where the file ends before. */
export async function readAt(file: FileHandle, path: string, into: Uint8Array, at: number): Promise<void> {
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
