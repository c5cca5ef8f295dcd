/**
 * How much memory there is for models: the machine's (or its container's), or the GPU's where
 * tensors live there.
 */
import { execFile } from 'node:child_process';
import { totalmem } from 'node:os';
import { promisify } from 'node:util';
import type { Device } from '../config/home.ts';

export interface MachineMemory {
  bytes: number;
  of: 'machine' | 'GPU';
}

/**
 * In all, whatever is in use now. Without a GPU that answers, the machine's memory also for `gpu`.
 */
export async function machineMemory(device: Device): Promise<MachineMemory> {
  const gpuBytes = device === 'gpu' ? await gpuMemory() : null;
  if (gpuBytes !== null) return { bytes: gpuBytes, of: 'GPU' };
  // Without a limit some systems answer with 0, others with a number far above what there is.
  const limit = process.constrainedMemory();
  return { bytes: limit > 0 ? Math.min(limit, totalmem()) : totalmem(), of: 'machine' };
}

/** Of the first GPU, which is the one that TensorFlow takes by itself. */
async function gpuMemory(): Promise<number | null> {
  try {
    const { stdout } = await promisify(execFile)(
      'nvidia-smi',
      ['--query-gpu=memory.total', '--format=csv,noheader,nounits'],
      { timeout: ANSWER_MS },
    );
    const mebibytes = Number.parseInt(stdout, 10);
    return Number.isFinite(mebibytes) ? mebibytes * 2 ** 20 : null;
  } catch {
    return null;
  }
}

const ANSWER_MS = 10_000;
