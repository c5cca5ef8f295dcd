/**
 * The adapter of the TensorFlow addon. It loads TensorFlow's shared library for tfjs, returns the
 * tfjs namespace, and gives access to kernels without a tfjs function (float64, Cholesky,
 * triangular solve).
 *
 * It does what `@tensorflow/tfjs-node-gpu/dist/index.js` does on import, with one difference: the
 * addon comes from a given path instead of node_modules, where that package's install script would
 * put one built for an older TensorFlow. The set-up provisions `addonPath`.
 *
 * Only one thread of a process may own the addon. tfjs calls are synchronous, so the owner yields
 * between its steps.
 */
import { constants } from 'node:os';
import { createRequire } from 'node:module';
import util from 'node:util';
import { isMainThread } from 'node:worker_threads';
import * as tf from '@tensorflow/tfjs-core';
import { messageOf } from '../../schemas/failures.ts';

/** Element types in TensorFlow's C interface (`TF_DataType`). */
export const TF_DTYPE = { float32: 1, float64: 2, int32: 3, int64: 9, bool: 10 } as const;

/** Kinds of attribute in TensorFlow's C interface (`TF_AttrType`). */
export const TF_ATTR = { string: 0, int: 1, float: 2, bool: 3, type: 4, shape: 5 } as const;

/** One attribute of a kernel call: `{ name: 'T', type: TF_ATTR.type, value: TF_DTYPE.float64 }`. */
export interface OpAttribute {
  readonly name: string;
  readonly type: number;
  readonly value: boolean | number | string | readonly number[];
}

/** The addon cannot be loaded, or is used before it is loaded. */
export class TensorFlowError extends Error {
  override readonly name = 'TensorFlowError';
  constructor(
    message: string,
    readonly facts: Record<string, unknown>,
    readonly hint: string,
  ) {
    super(`${message} ${hint}`);
  }
}

/**
 * Loads the addon at `addonPath`, makes it the backend of tfjs and returns the tfjs namespace. A
 * repeated call only returns the namespace. Before it starts a worker thread that calls this, the
 * main thread must call {@link setTensorFlowEnvironment}.
 *
 * Throws `TensorFlowError` if the addon does not load, or if another one is already loaded.
 */
export function loadTensorFlow(addonPath: string): typeof tf {
  if (loaded !== undefined) {
    if (loaded.addonPath !== addonPath) {
      throw new TensorFlowError(
        'Another TensorFlow addon is already loaded in this thread.',
        { loaded: loaded.addonPath, requested: addonPath },
        'One process uses one device: start a second process for the other one.',
      );
    }
    return tf;
  }
  if (isMainThread) setTensorFlowEnvironment();
  else requireTensorFlowEnvironment();
  restoreUtilFunctions();

  const binding = openAddon(addonPath);
  const { NodeJSKernelBackend } = registerKernels();
  const backend = new NodeJSKernelBackend(binding, TFJS_PACKAGE);
  tf.registerBackend('tensorflow', () => backend, BACKEND_PRIORITY);
  // setBackend is asynchronous only for backends with an asynchronous factory.
  void tf.setBackend('tensorflow');
  loaded = { addonPath, binding, backend };
  return tf;
}

/**
 * Sets defaults of TensorFlow's environment variables: quiet logs, no TF32 rounding on GPUs
 * (float32 means float32), GPU memory allocated as needed. Must run in the main thread, because
 * native code does not see a worker's copy of `process.env`.
 */
export function setTensorFlowEnvironment(): void {
  for (const [name, value] of Object.entries(ENVIRONMENT_DEFAULTS)) process.env[name] ??= value;
}

/**
 * Returns the loaded TensorFlow library's version, such as `2.18.1`; throws before
 * `loadTensorFlow`.
 */
export function tensorflowVersion(): string {
  return current().binding.TF_Version;
}

/** Returns the device that TensorFlow's kernels run on; throws before `loadTensorFlow`. */
export function deviceSeen(): 'cpu' | 'gpu' {
  return current().binding.isUsingGpuDevice() ? 'gpu' : 'cpu';
}

/**
 * Kernel calls on raw tensor ids, which neither `tf.tidy` nor `tf.memory()` sees, so the caller
 * frees them. Every call throws `TensorFlowError` before `loadTensorFlow`.
 */
export const raw = {
  /** Runs a kernel. The caller owns the returned ids. Throws TensorFlow's message on failure. */
  execute(
    op: string,
    attributes: readonly OpAttribute[],
    inputIds: readonly number[],
    outputs: number,
  ): number[] {
    const produced = current().binding.executeOp(op, attributes, inputIds, outputs);
    for (const tensor of produced) ownedRaw.set(tensor.id, tensor);
    return produced.map(({ id }) => id);
  },
  /**
   * Returns the id behind a tfjs tensor, valid until the tensor is disposed. Never free it
   * directly.
   */
  idOf(tensor: tf.Tensor): number {
    const [id] = current().backend.getInputTensorIds([tensor]);
    if (id === undefined)
      throw new TensorFlowError('No id.', { shape: tensor.shape }, 'Was the tensor disposed?');
    return id;
  },
  /** Returns the shape of a tensor from `execute` that was neither freed nor handed to tfjs. */
  shapeOf: (id: number): readonly number[] => owned(id).shape,
  free(id: number): void {
    owned(id);
    current().binding.deleteTensor(id);
    ownedRaw.delete(id);
  },
  /**
   * Hands a float32, int32 or bool tensor from `execute` to tfjs, which then owns (and tidies) it.
   */
  tensor(id: number): tf.Tensor {
    const tensor = owned(id);
    if (tensor.dtype === TF_DTYPE.float64)
      throw new TensorFlowError('tfjs has no float64 tensor.', { id }, 'Cast it to float32 first.');
    ownedRaw.delete(id);
    return current().backend.createOutputTensor(tensor);
  },
  /** Number of tensors alive in the addon, including those of tfjs, for leak tests. */
  liveCount: (): number => current().binding.getNumOfTensors(),
};

const TFJS_PACKAGE = '@tensorflow/tfjs-node-gpu';
/** The priority of tfjs-node: above its CPU (1) and WebGL (2) backends. */
const BACKEND_PRIORITY = 3;

const ENVIRONMENT_DEFAULTS = {
  TF_CPP_MIN_LOG_LEVEL: '2',
  NVIDIA_TF32_OVERRIDE: '0',
  TF_FORCE_GPU_ALLOW_GROWTH: 'true',
} as const;

interface RawTensor {
  readonly id: number;
  readonly shape: number[];
  readonly dtype: number;
}

/** The used part of the addon's interface. */
interface Binding {
  readonly TF_Version: string;
  isUsingGpuDevice(): boolean;
  getNumOfTensors(): number;
  deleteTensor(id: number): void;
  executeOp(
    op: string,
    attributes: readonly OpAttribute[],
    inputIds: readonly number[],
    outputs: number,
  ): RawTensor[];
}

interface Backend extends tf.KernelBackend {
  getInputTensorIds(tensors: readonly tf.Tensor[]): number[];
  createOutputTensor(tensor: RawTensor): tf.Tensor;
}

interface BackendModule {
  readonly NodeJSKernelBackend: new (binding: Binding, packageName: string) => Backend;
}

const require = createRequire(import.meta.url);
const ownedRaw = new Map<number, RawTensor>();
let loaded:
  { readonly addonPath: string; readonly binding: Binding; readonly backend: Backend } | undefined;

function current(): NonNullable<typeof loaded> {
  if (loaded === undefined)
    throw new TensorFlowError(
      'TensorFlow is not loaded.',
      {},
      'Call loadTensorFlow(addonPath) first.',
    );
  return loaded;
}

function owned(id: number): RawTensor {
  const tensor = ownedRaw.get(id);
  if (tensor === undefined) {
    throw new TensorFlowError(
      `Raw tensor ${id} is not owned here.`,
      { id },
      'It was freed, adopted by tfjs, or belongs to a tfjs tensor.',
    );
  }
  return tensor;
}

function requireTensorFlowEnvironment(): void {
  const missing = Object.keys(ENVIRONMENT_DEFAULTS).filter(
    (name) => process.env[name] === undefined,
  );
  if (missing.length > 0) {
    throw new TensorFlowError(
      'A worker thread cannot set the environment that TensorFlow reads.',
      { missing },
      'Call setTensorFlowEnvironment() on the main thread before starting the worker.',
    );
  }
}

/** Restores two functions of `node:util` that Node 23 removed and tfjs-node still calls. */
function restoreUtilFunctions(): void {
  const legacy = util as unknown as Record<string, unknown>;
  legacy['isNullOrUndefined'] ??= (value: unknown) => value === null || value === undefined;
  legacy['isArray'] ??= Array.isArray;
}

function openAddon(addonPath: string): Binding {
  const addonModule = { exports: {} as Binding };
  try {
    process.dlopen(addonModule, addonPath, constants.dlopen.RTLD_LAZY);
  } catch (cause) {
    throw new TensorFlowError(
      `The TensorFlow addon does not load: ${messageOf(cause)}`,
      { addonPath },
      'Run the set-up again (errata doctor says what is missing).',
    );
  }
  return addonModule.exports;
}

/** Registers all kernels and, because `@tensorflow/tfjs` is loaded too, all gradients. */
function registerKernels(): BackendModule {
  require(`${TFJS_PACKAGE}/dist/register_all_kernels.js`);
  return require(`${TFJS_PACKAGE}/dist/nodejs_kernel_backend.js`) as BackendModule;
}
