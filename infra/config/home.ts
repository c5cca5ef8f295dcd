/**
 * The one folder that everything which is not source lives in: what the set-up provisioned, the
 * embedded servers' data, the version log. `ERRATA_HOME` names it; without it, it is `.errata`
 * beside the code.
 *
 * Provisioned things carry their version in their path, so two versions of this project can share
 * one home.
 */
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Where TensorFlow runs. `gpu` needs the CUDA build, which also runs (on the processor) where there
 * is no GPU.
 */
export type Device = 'cpu' | 'gpu';

export const TENSORFLOW_VERSION = '2.18.1';
export const KAFKA_VERSION = '4.4.0';
export const TEMPORAL_CLI_VERSION = '1.9.1';
export const TEMPORAL_TEST_SERVER_VERSION = '1.40.0';
export const EMBEDDED_MODEL = 'smollm2-135m-instruct';

/** Paths inside one home. None of them need exist. */
export interface Home {
  readonly root: string;
  /** Half-done work of a running set-up, swept by the next one. */
  readonly staging: string;
  tensorflow(device: Device): TensorflowPaths;
  readonly kafka: { readonly folder: string; readonly libs: string };
  readonly temporal: { readonly folder: string; readonly executable: string };
  readonly temporalTestServer: { readonly folder: string; readonly executable: string };
  /** Folder of the embedded language model: one GGUF file. */
  readonly model: { readonly folder: string };
  /** Data, logs and pid file of one embedded server. */
  serverData(server: 'kafka' | 'temporal'): string;
}

export interface TensorflowPaths {
  readonly folder: string;
  readonly lib: string;
  readonly include: string;
  readonly addon: string;
}

/** Paths inside `root`. */
export function homeAt(root: string): Home {
  const absolute = path.resolve(root);
  const inside = (...parts: string[]): string => path.join(absolute, ...parts);
  const kafka = inside('kafka', KAFKA_VERSION);
  const temporal = inside('temporal', TEMPORAL_CLI_VERSION);
  const temporalTestServer = inside('temporal-test-server', TEMPORAL_TEST_SERVER_VERSION);
  return {
    root: absolute,
    staging: inside('staging'),
    tensorflow(device) {
      const folder = inside('tensorflow', `${TENSORFLOW_VERSION}-${device}`);
      return {
        folder,
        lib: path.join(folder, 'lib'),
        include: path.join(folder, 'include'),
        addon: path.join(folder, 'tfjs_binding.node'),
      };
    },
    kafka: { folder: kafka, libs: path.join(kafka, 'libs') },
    temporal: { folder: temporal, executable: path.join(temporal, 'bin', 'temporal') },
    temporalTestServer: {
      folder: temporalTestServer,
      executable: path.join(temporalTestServer, 'bin', 'temporal-test-server'),
    },
    model: { folder: inside('models', EMBEDDED_MODEL) },
    serverData: (server) => inside('servers', server),
  };
}

/** The home that the environment names. */
export function homeFromEnvironment(environment: NodeJS.ProcessEnv = process.env): Home {
  const named = environment['ERRATA_HOME'];
  return homeAt(named !== undefined && named !== '' ? named : path.join(PROJECT_ROOT, '.errata'));
}

/** The device that `ERRATA_DEVICE` names; anything but `gpu` and `cpu` (or nothing) throws. */
export function deviceFromEnvironment(environment: NodeJS.ProcessEnv = process.env): Device {
  const named = environment['ERRATA_DEVICE'] ?? '';
  if (named === '' || named === 'cpu') return 'cpu';
  if (named === 'gpu') return 'gpu';
  throw new RangeError(`ERRATA_DEVICE is "${named}": it can be "cpu" or "gpu".`);
}

/** The folder that holds package.json. */
export const PROJECT_ROOT = fileURLToPath(new URL('../..', import.meta.url));
