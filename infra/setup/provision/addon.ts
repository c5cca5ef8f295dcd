/**
 * The addon through which tfjs calls TensorFlow, compiled from the sources in the tfjs package.
 * That package's own install script would download a TensorFlow from 2022, which lacks kernels for
 * current GPUs.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { TENSORFLOW_VERSION } from '../../config/home.ts';
import { findCompiler } from '../programs.ts';
import { during, type Progress } from '../progress.ts';
import { ProvisionError, runClient } from './client-process.ts';

const LIBRARIES = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'];
/** The part of TensorFlow's 100 MB of headers that its C interface needs. */
const HEADERS = ['tensorflow/c/', 'tensorflow/core/platform/', 'tsl/', 'xla/tsl/'];
/** The compiler's wheel also contains programs and a function library that the kernels need. */
const CUDA_FOLDERS = [/^nvidia\/.*\/lib\//, /^nvidia\/cuda_nvcc\/(bin|nvvm)\//];
const COMPILE_WAIT_MS = 600_000;
const LOAD_WAIT_MS = 120_000;
const require = createRequire(import.meta.url);

/**
 * Returns the place of an entry of TensorFlow's wheels. CUDA must be in `../nvidia/<library>/lib`.
 */
export function tensorflowPlace(entry: string): string | undefined {
  const [, inTensorflow] = /^tensorflow\/(.*)$/.exec(entry) ?? [];
  if (inTensorflow === undefined)
    return CUDA_FOLDERS.some((folder) => folder.test(entry)) ? entry : undefined;
  if (LIBRARIES.includes(inTensorflow)) return path.join('lib', inTensorflow);
  const wanted =
    inTensorflow === 'THIRD_PARTY_NOTICES.txt' ||
    HEADERS.some((folder) => inTensorflow.startsWith(`include/${folder}`));
  return wanted ? inTensorflow : undefined;
}

/** Returns the digest of the addon's sources, for the folder's stamp. */
export function digestOfSources(): string {
  const hash = createHash('sha256');
  for (const file of sourceFiles()) hash.update(readFileSync(file));
  return hash.digest('hex');
}

/**
 * Compiles the addon against the libraries in `folder`. Then loads it in a separate process, since
 * an addon that links may still fail to load. Node-API is stable, so the addon keeps working across
 * Node updates.
 */
export async function installAddon(folder: string, progress: Progress): Promise<void> {
  const compiler = findCompiler();
  if (compiler === undefined)
    throw new ProvisionError(
      'No C++ compiler was found.',
      { CXX: process.env['CXX'] },
      '`errata doctor` says how to install one.',
    );
  const addon = path.join(folder, 'tfjs_binding.node');
  await during(progress.step('Compile the TensorFlow addon'), async () => {
    await runClient({
      executable: compiler,
      args: [
        ...['-std=c++17', '-O2', '-fPIC', '-shared'],
        ...['-DNAPI_VERSION=8', '-DNODE_GYP_MODULE_NAME=tfjs_binding'],
        `-I${path.join(packageFolder('node-api-headers'), 'include')}`,
        `-I${packageFolder('@tensorflow/tfjs-node-gpu')}`,
        `-I${path.join(folder, 'include')}`,
        ...sourceFiles().filter((file) => file.endsWith('.cc')),
        `-L${path.join(folder, 'lib')}`,
        ...LIBRARIES.map((library) => `-l:${library}`),
        ...['-Wl,-rpath,$ORIGIN/lib', '-o', addon],
      ],
      folder,
      waitMs: COMPILE_WAIT_MS,
      hint: '`errata doctor` checks the compiler.',
    });
    await load(addon, folder);
  });
}

async function load(addon: string, folder: string): Promise<void> {
  const program = `const loaded = { exports: {} };
    process.dlopen(loaded, process.argv[1]);
    console.log('version ' + loaded.exports.TF_Version);`;
  const output = await runClient({
    executable: process.execPath,
    args: ['-e', program, addon],
    folder,
    environment: { ...process.env, NODE_OPTIONS: '', TF_CPP_MIN_LOG_LEVEL: '2' },
    waitMs: LOAD_WAIT_MS,
    hint:
      'The addon was compiled but does not load on this system. It needs Linux on x86-64 with ' +
      'glibc 2.17 or newer.',
  });
  if (!output.includes(`version ${TENSORFLOW_VERSION}`))
    throw new ProvisionError(
      'The addon loads another TensorFlow.',
      { output },
      'Is LD_LIBRARY_PATH or LD_PRELOAD set?',
    );
}

function packageFolder(name: string): string {
  return path.dirname(require.resolve(`${name}/package.json`));
}

function sourceFiles(): string[] {
  const folder = path.join(packageFolder('@tensorflow/tfjs-node-gpu'), 'binding');
  return readdirSync(folder)
    .filter((name) => /\.(cc|h)$/.test(name))
    .sort()
    .map((name) => path.join(folder, name));
}
