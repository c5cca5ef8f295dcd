/** `errata doctor --model` as data: a model's shape and parameters, and whether it fits here. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { promisify } from 'node:util';
import { readModelShape, type ModelConfig } from '../../../model/checkpoint/checkpoint.ts';
import {
  memoryNeed,
  OTHER_PROCESSES_BYTES,
  type MemoryNeed,
} from '../../../model/engine/memory-need.ts';
import { parameterSetFor } from '../../../model/engine/parameter-sets.ts';
import { parametersFor } from '../../../model/engine/parameters.ts';
import type { HyperParameters } from '../../../schemas/hyper-parameters.ts';
import type { Configuration } from '../../config/configuration.ts';
import { modelPathOf, parametersOf } from '../../config/engine-options.ts';
import type { Device } from '../../config/home.ts';
import { memoryLimit } from '../prerequisites.ts';

/** The memory for models: the machine's or its container's, or the GPU's if tensors are there. */
export interface MachineMemory {
  bytes: number;
  of: 'machine' | 'GPU';
}

export interface ModelNeed extends Fit {
  name: string;
  config: ModelConfig;
  parameterSet: { name: string; source: string };
  parameters: HyperParameters;
  memory: MemoryNeed;
  machine: MachineMemory;
}

export interface Fit {
  /** Both processes with a model and, in main memory, all others. */
  totalBytes: number;
  fits: boolean;
  sentence: string;
}

const GENERAL_RULE = {
  name: 'general rule',
  source:
    'no set fits this model: layers at 13 to 28 % of the depth, lambda = F; ' +
    '`errata tune` finds better ones',
};
const GPU_WAIT_MS = 10_000;

/** Reads only the configured model's header. A hub model need not be downloaded. */
export async function examineModel(configuration: Configuration): Promise<ModelNeed> {
  const { name, config } = await shapeOfModel(configuration);
  const parameters = parametersFor(config, parametersOf(configuration));
  const set = configuration.parameterSet ?? parameterSetFor(config) ?? GENERAL_RULE;
  const memory = memoryNeed(config, parameters);
  const machine = await machineMemory(configuration.device);
  return {
    name,
    config,
    parameterSet: { name: set.name, source: set.source },
    parameters,
    memory,
    machine,
    ...fitOf(memory, machine),
  };
}

/** Tells whether the processes with a model fit into the machine together. */
export function fitOf(memory: MemoryNeed, machine: MachineMemory): Fit {
  const others = machine.of === 'machine' ? OTHER_PROCESSES_BYTES : 0;
  const totalBytes = memory.processes.reduce((sum, { peakBytes }) => sum + peakBytes, others);
  const [need, has] = [gigabytes(totalBytes), gigabytes(machine.bytes)];
  if (totalBytes <= machine.bytes) {
    const sentence = `It fits: about ${need} of the ${machine.of}'s ${has}.`;
    return { totalBytes, fits: true, sentence };
  }
  const apart = memory.processes.every(({ peakBytes }) => peakBytes + others <= machine.bytes);
  const sentence =
    `It will not fit: about ${need} are needed, the ${machine.of} has ${has}.` +
    (apart ? ' Either process alone would fit: run edit-worker and serve on two machines.' : '');
  return { totalBytes, fits: false, sentence };
}

export function gigabytes(bytes: number): string {
  if (bytes >= 1e8) return `${(bytes / 1e9).toFixed(1)} GB`;
  return `${(bytes / 1e6).toFixed(bytes >= 1e7 ? 0 : 1)} MB`;
}

async function shapeOfModel(
  configuration: Configuration,
): Promise<{ name: string; config: ModelConfig }> {
  const path = modelPathOf(configuration);
  const { model, hubToken } = configuration;
  if (model === null || isAbsolute(model) || existsSync(join(path, 'config.json')))
    return readModelShape(path);
  const { fetchConfigFromHub } = await import('../../../model/checkpoint/hub.ts');
  const folder = await mkdtemp(join(tmpdir(), 'errata-shape-'));
  try {
    const access = hubToken === null ? {} : { accessToken: hubToken.reveal() };
    await fetchConfigFromHub(model, folder, access);
    return { name: model, config: (await readModelShape(folder)).config };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function machineMemory(device: Device): Promise<MachineMemory> {
  const gpuBytes = device === 'gpu' ? await gpuMemory() : null;
  return gpuBytes === null
    ? { bytes: memoryLimit(), of: 'machine' }
    : { bytes: gpuBytes, of: 'GPU' };
}

/** Returns the memory of the first GPU, which TensorFlow uses; null if none answers. */
async function gpuMemory(): Promise<number | null> {
  const query = ['--query-gpu=memory.total', '--format=csv,noheader,nounits'];
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', query, { timeout: GPU_WAIT_MS });
    const mebibytes = Number.parseInt(stdout, 10);
    return Number.isFinite(mebibytes) ? mebibytes * 2 ** 20 : null;
  } catch {
    return null;
  }
}
