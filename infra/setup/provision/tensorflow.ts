/**
 * TensorFlow's shared libraries, and the addon through which tfjs calls them, compiled here from
 * the sources in the tfjs package. Their own install script would bring a TensorFlow of 2022,
 * without the kernels of today's GPUs.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { TENSORFLOW_VERSION, type Device } from '../../config/home.ts';
import type { Progress } from '../progress.ts';
import { runClient } from './client-process.ts';
import { findCompiler } from '../programs.ts';
import type { Stamp } from './installation.ts';
import { CUDA_WHEELS, TENSORFLOW_CPU_WHEEL, TENSORFLOW_GPU_WHEEL, type WheelPin } from './pins.ts';
import { ProvisionError } from './client-process.ts';
import { fetchWheel, unpackWheel } from './wheel.ts';

/** What the folder of a device's TensorFlow is made from: the wheels and the addon's sources. */
export function tensorflowStamp(device: Device): Stamp {
  const wheels = wheelsOf(device).map(
    (wheel) => [`${wheel.project} ${wheel.version}`, wheel.sha256] as const,
  );
  return { ...Object.fromEntries(wheels), 'addon sources': digestOfSources() };
}

/** Fills `folder`, laid out as `Home.tensorflow` names its paths. */
export async function makeTensorflow(
  device: Device,
  folder: string,
  progress: Progress,
): Promise<void> {
  for (const pin of wheelsOf(device)) {
    const wheel = await fetchWheel(pin, folder, progress);
    await unpackWheel(wheel, folder, placeOf, progress);
    // One at a time: the CUDA wheels together are bigger than most of what they unpack to.
    rmSync(wheel);
  }
  await compileAddon(folder, progress);
  await proveAddon(folder);
}

const LIBRARIES = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'];
/** The part of TensorFlow's 100 MB of headers that its C interface is made of. */
const HEADERS = ['tensorflow/c/', 'tensorflow/core/platform/', 'tsl/', 'xla/tsl/'];
const COMPILE_WAIT_MS = 600_000;
const LOAD_WAIT_MS = 120_000;
const require = createRequire(import.meta.url);

function wheelsOf(device: Device): readonly WheelPin[] {
  return device === 'cpu' ? [TENSORFLOW_CPU_WHEEL] : [TENSORFLOW_GPU_WHEEL, ...CUDA_WHEELS];
}

/** The libraries look for CUDA in `../nvidia/<library>/lib` from where they are themselves. */
function placeOf(entry: string): string | undefined {
  const inTensorflow = stripPrefix(entry, 'tensorflow/');
  if (inTensorflow === undefined)
    return entry.startsWith('nvidia/') && wantedOfCuda(entry) ? entry : undefined;
  if (LIBRARIES.includes(inTensorflow)) return path.join('lib', inTensorflow);
  if (inTensorflow === 'THIRD_PARTY_NOTICES.txt') return inTensorflow;
  const header = stripPrefix(inTensorflow, 'include/');
  return header !== undefined && HEADERS.some((folder) => header.startsWith(folder))
    ? inTensorflow
    : undefined;
}

/**
 * Not the headers and the Python files; of the compiler's wheel also its programs and its library
 * of functions.
 */
function wantedOfCuda(entry: string): boolean {
  return (
    entry.includes('/lib/') ||
    entry.startsWith('nvidia/cuda_nvcc/bin/') ||
    entry.startsWith('nvidia/cuda_nvcc/nvvm/')
  );
}

function stripPrefix(text: string, prefix: string): string | undefined {
  return text.startsWith(prefix) ? text.slice(prefix.length) : undefined;
}

/**
 * The Node-API is the same in every Node since 12: its headers come from npm, and the addon
 * outlives changes of Node.
 */
async function compileAddon(folder: string, progress: Progress): Promise<void> {
  const compiler = findCompiler();
  if (compiler === undefined) {
    throw new ProvisionError(
      'No C++ compiler was found.',
      { CXX: process.env['CXX'] },
      'errata doctor names the mend.',
    );
  }
  const step = progress.step('Compile the TensorFlow addon');
  try {
    await runClient({
      executable: compiler,
      args: [
        ...[
          '-std=c++17',
          '-O2',
          '-fPIC',
          '-shared',
          '-DNAPI_VERSION=8',
          '-DNODE_GYP_MODULE_NAME=tfjs_binding',
        ],
        `-I${nodeApiHeaders()}`,
        `-I${path.dirname(sourceFolder())}`,
        `-I${path.join(folder, 'include')}`,
        ...sourceFiles().filter((file) => file.endsWith('.cc')),
        `-L${path.join(folder, 'lib')}`,
        ...LIBRARIES.map((library) => `-l:${library}`),
        '-Wl,-rpath,$ORIGIN/lib',
        ...['-o', path.join(folder, 'tfjs_binding.node')],
      ],
      folder,
      waitMs: COMPILE_WAIT_MS,
      hint: 'errata doctor checks the compiler.',
    });
    step.done();
  } catch (error) {
    step.failed();
    throw error;
  }
}

/**
 * An addon that links is not yet one that loads: a separate process finds out before the folder
 * counts as installed.
 */
async function proveAddon(folder: string): Promise<void> {
  const program = `const loaded = { exports: {} };
    process.dlopen(loaded, process.argv[1]);
    console.log('version ' + loaded.exports.TF_Version);`;
  const output = await runClient({
    executable: process.execPath,
    args: ['-e', program, path.join(folder, 'tfjs_binding.node')],
    folder,
    environment: { ...process.env, NODE_OPTIONS: '', TF_CPP_MIN_LOG_LEVEL: '2' },
    waitMs: LOAD_WAIT_MS,
    hint: 'The addon was compiled but does not load on this system: it needs Linux on x86-64 with glibc 2.17 or newer.',
  });
  if (!output.includes(`version ${TENSORFLOW_VERSION}`)) {
    throw new ProvisionError(
      'The addon loads another TensorFlow.',
      { output },
      'Is LD_LIBRARY_PATH or LD_PRELOAD set?',
    );
  }
}

function sourceFolder(): string {
  return path.join(
    path.dirname(require.resolve('@tensorflow/tfjs-node-gpu/package.json')),
    'binding',
  );
}

function nodeApiHeaders(): string {
  return path.join(path.dirname(require.resolve('node-api-headers/package.json')), 'include');
}

function sourceFiles(): string[] {
  return readdirSync(sourceFolder())
    .filter((name) => /\.(cc|h)$/.test(name))
    .sort()
    .map((name) => path.join(sourceFolder(), name));
}

function digestOfSources(): string {
  const hash = createHash('sha256');
  for (const file of sourceFiles()) hash.update(readFileSync(file));
  return hash.digest('hex');
}
