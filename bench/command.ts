/** Shared parts of the benchmark commands: options, set-up, the engine, progress and results. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import { readConfiguration, type Configuration } from '../infra/config/configuration.ts';
import { homeAt, PROJECT_ROOT } from '../infra/config/home.ts';
import { progressOn, type Progress, type ProgressStep } from '../infra/setup/progress.ts';
import { provision } from '../infra/setup/provision/index.ts';
import type { EngineOptions } from '../model/engine/loaded-model.ts';
import { LocalEngine } from '../model/engine/local-engine.ts';

export function positive(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError('expected a whole number of at least 1');
  return value;
}

export function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new InvalidArgumentError('expected JSON');
  }
}

/** A half-open range. */
export interface Range {
  from: number;
  to: number;
}

export function range(text: string): Range {
  const [, from, to] = /^(\d+):(\d+)$/.exec(text.trim()) ?? [];
  if (from === undefined || to === undefined || Number(from) >= Number(to))
    throw new InvalidArgumentError('expected FROM:TO with FROM < TO');
  return { from: Number(from), to: Number(to) };
}

export const listOf =
  <Item>(item: (text: string) => Item) =>
  (text: string): Item[] =>
    text.split(',').map((one) => item(one.trim()));

export const namesIn = <Name extends string>(names: readonly Name[]) =>
  listOf((text) => {
    const name = names.find((one) => one === text);
    if (name === undefined) throw new InvalidArgumentError(`expected some of ${names.join(', ')}`);
    return name;
  });

/** Adds the options for the editing inputs: records, model, ordinary text and hyper-parameters. */
export function editingOptions(command: Command): Command {
  return command
    .requiredOption(
      '--data <file>',
      `JSON array of records: case_id, prompt, subject, target_new, ground_truth, and optionally
rephrase_prompt, paraphrases[], locality_prompt, neighbours[]`,
    )
    .option(
      '--model <path>',
      'a model folder or file, or a Hugging Face id that is already fetched',
    )
    .option('--text <file>', "ordinary text for the key statistics, not the model's own samples")
    .option('--parameters <json>', 'hyper-parameters to change', json, {});
}

/**
 * Adds the options of a benchmark with selectable parts that writes `<name>.json` and `<name>.md`.
 */
export function partOptions(command: Command, name: string, parts: readonly string[]): Command {
  const results = path.join(PROJECT_ROOT, 'bench', 'results');
  return command
    .option('--only <parts>', `some of ${parts.join(', ')}`, namesIn(parts), [...parts])
    .option('--out <folder>', `for ${name}.json and ${name}.md`, results);
}

/** Runs a command; prints any error and sets the exit code. */
export async function runCommand(name: string, command: () => Promise<void>): Promise<void> {
  try {
    await command();
  } catch (error) {
    process.stderr.write(`${name}: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}

/** Reads the configuration, optionally with another model, and installs missing parts. */
export async function setUp(
  model: string | undefined,
  servers: readonly ('kafka' | 'temporal')[] = [],
): Promise<{ configuration: Configuration; progress: Progress }> {
  const named = model === undefined ? {} : { ERRATA_MODEL: model };
  const configuration = readConfiguration({ ...process.env, ...named });
  const progress = progressOn(process.stderr);
  const ownModel = configuration.model === null ? (['model'] as const) : [];
  await provision(['tensorflow', ...servers, ...ownModel], {
    home: homeAt(configuration.home),
    device: configuration.device,
    progress,
  });
  return { configuration, progress };
}

export async function openEngine(options: EngineOptions, progress: Progress): Promise<LocalEngine> {
  const stages = stepPerLabel(progress);
  const engine = await LocalEngine.open(options, (stage, share) =>
    stages.at(stage, Math.round(share * 100), 100),
  );
  stages.done();
  return engine;
}

/** Shows each label as a step that ends when the next one begins. */
export function stepPerLabel(progress: Progress) {
  let shown: { label: string; step: ProgressStep } | undefined;
  return {
    at(label: string, done: number, amount: number): void {
      if (shown?.label !== label) {
        shown?.step.done();
        shown = { label, step: progress.step(label, { amount, unit: 'items' }) };
      }
      shown.step.at(done);
    },
    done: (): void => shown?.step.done(),
  };
}

/** Runs the work as one progress step; `at` reports the amount done. */
export async function during<Result>(
  progress: Progress,
  label: string,
  work: (at: (done: number) => void) => Promise<Result>,
  amount?: number,
): Promise<Result> {
  const step = progress.step(label, amount === undefined ? undefined : { amount, unit: 'items' });
  try {
    const result = await work((done) => step.at(done));
    step.done();
    return result;
  } catch (error) {
    step.failed();
    throw error;
  }
}

/** Writes `<name>.json` and `<name>.md`, and prints the text. */
export function writeResult(folder: string, name: string, result: object, text: string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, `${name}.json`), `${JSON.stringify(result, null, 2)}\n`);
  writeFileSync(path.join(folder, `${name}.md`), text);
  process.stdout.write(text);
}
