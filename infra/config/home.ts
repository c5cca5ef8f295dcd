/**
 * The data folder, which holds everything except the source: installed parts, the embedded servers'
 * data, the version log. `ERRATA_HOME` names it; the default is `.errata` beside the code.
 *
 * Installed parts carry their version in their path, so that two versions of Errata can share one
 * data folder.
 */
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The device that TensorFlow uses. `gpu` needs the CUDA build, which also runs on the CPU. */
export type Device = 'cpu' | 'gpu';

export const TENSORFLOW_VERSION = '2.18.1';
export const KAFKA_VERSION = '4.4.0';
export const TEMPORAL_CLI_VERSION = '1.9.1';
export const TEMPORAL_TEST_SERVER_VERSION = '1.40.0';
export const EMBEDDED_MODEL = 'smollm2-135m-instruct';

export const PROJECT_ROOT = fileURLToPath(new URL('../..', import.meta.url));

export type Home = ReturnType<typeof homeAt>;

/** Returns the paths in the data folder `root`. They need not exist. */
export function homeAt(root: string) {
  const absolute = path.resolve(root);
  const inside = (...parts: string[]): string => path.join(absolute, ...parts);
  const program = (name: string, version: string, executable: string) => {
    const folder = inside(name, version);
    return { folder, executable: path.join(folder, 'bin', executable) };
  };
  return {
    root: absolute,
    /** Unfinished work of a set-up; the next set-up removes leftovers. */
    staging: inside('staging'),
    tensorflow(device: Device) {
      const folder = inside('tensorflow', `${TENSORFLOW_VERSION}-${device}`);
      return { folder, addon: path.join(folder, 'tfjs_binding.node') };
    },
    kafka: { folder: inside('kafka', KAFKA_VERSION), libs: inside('kafka', KAFKA_VERSION, 'libs') },
    temporal: program('temporal', TEMPORAL_CLI_VERSION, 'temporal'),
    temporalTestServer: program(
      'temporal-test-server',
      TEMPORAL_TEST_SERVER_VERSION,
      'temporal-test-server',
    ),
    /** The embedded language model: a folder with one GGUF file. */
    model: { folder: inside('models', EMBEDDED_MODEL) },
    /** Hugging Face models, by id. */
    hubModels: inside('models', 'hub'),
    keyStatistics: inside('key-statistics'),
    /** Data, logs and server record of an embedded server. */
    serverData: (server: 'kafka' | 'temporal') => inside('servers', server),
  };
}

export function homeFromEnvironment(environment: NodeJS.ProcessEnv = process.env): Home {
  return homeAt(environment['ERRATA_HOME'] || path.join(PROJECT_ROOT, '.errata'));
}

/** Returns the device named by `ERRATA_DEVICE`, or `cpu`. Throws RangeError for any other value. */
export function deviceFromEnvironment(environment: NodeJS.ProcessEnv = process.env): Device {
  const named = environment['ERRATA_DEVICE'] || 'cpu';
  if (named === 'cpu' || named === 'gpu') return named;
  throw new RangeError(`ERRATA_DEVICE is "${named}"; it must be "cpu" or "gpu".`);
}
