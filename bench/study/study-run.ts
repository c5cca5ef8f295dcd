/**
 * A run of a study: the model and data that the command line and the configuration name, points
 * that survive an interruption, and reports that are rewritten with every point.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { engineOptions } from '../../infra/config/engine-options.ts';
import type { Progress } from '../../infra/setup/progress.ts';
import { openCheckpoint } from '../../model/checkpoint/checkpoint.ts';
import type { EngineOptions } from '../../model/engine/loaded-model.ts';
import { parametersFor } from '../../model/engine/parameters.ts';
import type { HyperParameterOverrides, HyperParameters } from '../../schemas/editing.ts';
import { during, openEngine, setUp, type Range } from '../command.ts';
import { csvTable, markdownTable, type Column } from '../tables.ts';
import { rememberingBase, type GatedEngine } from './gated-engine.ts';
import { KeptPoints } from './kept-points.ts';
import { readStream, type StudyRecord } from './study-records.ts';

export interface StudyOptions {
  data: string;
  records: Range[];
  out?: string;
  model?: string;
  text?: string;
  parameters: HyperParameterOverrides;
}

/** Where a stream and its points are kept, and what is called while they are made. */
export interface Keeping<Found> {
  folder: string;
  points: KeptPoints;
  /** Called after each batch with the number of corrections edited so far. */
  edited: (corrections: number) => void;
  /** Called with every point, measured or kept. */
  found: (point: Found) => Promise<void> | void;
}

/** Runs the study `name`; prints its last summary and the files that it wrote. */
export async function runStudy(
  name: string,
  options: StudyOptions,
  study: (run: StudyRun, records: StudyRecord[]) => Promise<void>,
): Promise<void> {
  const records = await readStream(options.data, options.records);
  const run = await StudyRun.open(name, options);
  await study(run, records);
  process.stdout.write(run.summary);
}

interface Inputs {
  data: string;
  model: string;
  text: string | null;
}

export class StudyRun {
  readonly #progress: Progress;
  readonly #name: string;
  readonly #folder: string;
  readonly #inputs: Inputs;
  readonly #engine: EngineOptions;
  readonly #parametersFor: (overrides: HyperParameterOverrides) => HyperParameters;
  summary = '';

  private constructor(
    name: string,
    folder: string,
    progress: Progress,
    {
      engine,
      inputs,
      config,
    }: {
      engine: EngineOptions;
      inputs: Inputs;
      config: Parameters<typeof parametersFor>[0];
    },
  ) {
    this.#name = name;
    this.#folder = folder;
    this.#progress = progress;
    this.#engine = engine;
    this.#inputs = inputs;
    this.#parametersFor = (overrides) =>
      parametersFor(config, laidOver(engine.parameters, overrides));
  }

  /** Sets up what is missing; without `out` the study is kept below the data folder. */
  static async open(
    name: string,
    { data, out, model, text, parameters }: StudyOptions,
  ): Promise<StudyRun> {
    const { configuration, progress } = await setUp(model);
    const given = engineOptions(configuration);
    const textFile = text ?? given.textFile;
    const checkpoint = await openCheckpoint(given.modelPath);
    const { config, sha256 } = checkpoint;
    await checkpoint.close();
    const inputs = {
      data: await sha256OfFile(data),
      model: sha256,
      text: textFile === null ? null : await sha256OfFile(textFile),
    };
    const engine = { ...given, textFile, parameters: laidOver(given.parameters, parameters) };
    const folder = path.resolve(out ?? path.join(configuration.home, 'studies', name));
    return new StudyRun(name, folder, progress, { engine, inputs, config });
  }

  get keptIn(): string {
    return this.#folder;
  }

  /** The hyper-parameters in force, with these changes. */
  parametersWith(overrides: HyperParameterOverrides): HyperParameters {
    return this.#parametersFor(overrides);
  }

  /** What a point depends on beside its study: data, model, text and hyper-parameters. */
  circumstances(overrides: HyperParameterOverrides = {}): Record<string, unknown> {
    return { ...this.#inputs, parameters: { ...this.parametersWith(overrides) } };
  }

  /** Opens an engine that asks the base model each question once; the caller closes it. */
  async openEngine(overrides: HyperParameterOverrides = {}): Promise<GatedEngine> {
    const parameters = laidOver(this.#engine.parameters, overrides);
    const options = { ...this.#engine, parameters };
    return rememberingBase(await openEngine(options, this.#progress));
  }

  /** Edits and measures as one step of the progress. */
  async step<Found, Result>(
    label: string,
    corrections: number,
    found: Keeping<Found>['found'],
    work: (keeping: Keeping<Found>) => Promise<Result>,
  ): Promise<Result> {
    const kept = { folder: this.#folder, points: new KeptPoints(this.#folder), found };
    const edited = (at: (done: number) => void) => work({ ...kept, edited: at });
    return await during(this.#progress, label, edited, corrections);
  }

  /** Replaces the report's files; `summary` is printed at the end of the study. */
  async write(files: Record<string, string>, summary = ''): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    for (const [name, content] of Object.entries(files))
      await writeFile(path.join(this.#folder, name), content);
    const paths = Object.keys(files).map((name) => path.join(this.#folder, name));
    this.summary = `${summary}${paths.join('\n')}\n`;
  }

  /** Writes points as a table in Markdown and CSV, and in full as JSON. */
  async writeTable<Point>(
    title: string,
    columns: readonly Column<Point>[],
    points: readonly Point[],
    circumstances: object,
  ): Promise<void> {
    const table = markdownTable(columns, points);
    const files = {
      [`${this.#name}.md`]: title + table,
      [`${this.#name}.csv`]: csvTable(columns, points),
      [`${this.#name}.json`]: `${JSON.stringify({ circumstances, points }, null, 2)}\n`,
    };
    await this.write(files, `${table}\n`);
  }
}

/**
 * Lays changes over hyper-parameters. A gate's numbers have a meaning for their own kind only, so
 * another kind starts from its own defaults.
 */
export function laidOver(
  under: HyperParameterOverrides,
  over: HyperParameterOverrides,
): HyperParameterOverrides {
  const sameKind = over.gate?.kind === undefined || over.gate.kind === under.gate?.kind;
  const gate = { ...(sameKind ? under.gate : {}), ...over.gate };
  return { ...under, ...over, ...(Object.keys(gate).length === 0 ? {} : { gate }) };
}

async function sha256OfFile(file: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
}
