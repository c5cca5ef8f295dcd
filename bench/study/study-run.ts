/**
 * A study run: the model and data from the command line and the configuration, points that survive
 * an interruption, and reports that are rewritten after every point.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { engineOptions } from '../../infra/config/engine-options.ts';
import type { Progress } from '../../infra/setup/progress.ts';
import { openCheckpoint } from '../../model/checkpoint/checkpoint.ts';
import { fileSha256 } from '../../model/checkpoint/identity.ts';
import type { EngineOptions } from '../../model/engine/loaded-model.ts';
import { parametersFor } from '../../model/engine/parameters.ts';
import type { HyperParameterOverrides, HyperParameters } from '../../schemas/hyper-parameters.ts';
import { during, openEngine, setUp, type Range } from '../command.ts';
import { KeptPoints } from '../kept-points.ts';
import { csvTable, markdownTable, type Column } from '../tables.ts';
import { remembering, type GatedEngine } from '../wrapped-engine.ts';
import { readStream, type StudyRecord } from './study-records.ts';

export interface StudyOptions {
  data: string;
  records: Range[];
  out?: string;
  model?: string;
  text?: string;
  parameters: HyperParameterOverrides;
}

/** The folder for points and streams, and a callback for the number of edited corrections. */
export interface Keeping {
  points: KeptPoints;
  edited: (corrections: number) => void;
}

/** Runs the study `name`; prints its last summary and the files it wrote. */
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

interface Basis {
  engine: EngineOptions;
  inputs: { data: string; model: string; text: string | null };
  config: Parameters<typeof parametersFor>[0];
}

export class StudyRun {
  summary = '';

  private constructor(
    private readonly name: string,
    readonly folder: string,
    private readonly progress: Progress,
    private readonly basis: Basis,
  ) {}

  /** Installs missing parts. Without `out`, the study is stored in the data folder. */
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
      data: await fileSha256(data),
      model: sha256,
      text: textFile === null ? null : await fileSha256(textFile),
    };
    const engine = { ...given, textFile, parameters: laidOver(given.parameters, parameters) };
    const folder = path.resolve(out ?? path.join(configuration.home, 'studies', name));
    return new StudyRun(name, folder, progress, { engine, inputs, config });
  }

  /** Returns the configured hyper-parameters with these changes. */
  parametersWith(overrides: HyperParameterOverrides): HyperParameters {
    const { config, engine } = this.basis;
    return parametersFor(config, laidOver(engine.parameters, overrides));
  }

  /** Returns a point's inputs other than its study: data, model, text and hyper-parameters. */
  circumstances(overrides: HyperParameterOverrides = {}): Record<string, unknown> {
    return { ...this.basis.inputs, parameters: { ...this.parametersWith(overrides) } };
  }

  /** Runs the work with an engine that caches the base model's answers. */
  async withEngine<Result>(
    work: (engine: GatedEngine) => Promise<Result>,
    overrides: HyperParameterOverrides = {},
  ): Promise<Result> {
    const parameters = laidOver(this.basis.engine.parameters, overrides);
    const engine = await openEngine({ ...this.basis.engine, parameters }, this.progress);
    try {
      return await work(remembering(engine));
    } finally {
      await engine.close();
    }
  }

  /** Measures points as one progress step; calls `found` for each, whether measured or stored. */
  async measure<Point>(
    label: string,
    corrections: number,
    points: (keeping: Keeping) => AsyncIterable<Point>,
    found: (point: Point) => Promise<void> | void,
  ): Promise<void> {
    const work = async (edited: Keeping['edited']) => {
      for await (const point of points({ points: new KeptPoints(this.folder), edited }))
        await found(point);
    };
    await during(this.progress, label, work, corrections);
  }

  /** Replaces the report's files; `summary` is printed at the end of the study. */
  async write(files: Record<string, string>, summary = ''): Promise<void> {
    await mkdir(this.folder, { recursive: true });
    const paths = Object.keys(files).map((name) => path.join(this.folder, name));
    for (const [i, content] of Object.values(files).entries()) await writeFile(paths[i]!, content);
    this.summary = `${summary}${paths.join('\n')}\n`;
  }

  /**
   * Returns a function that adds a point to the study's table, which is written as Markdown, CSV
   * and full JSON.
   */
  table<Point>(
    columns: readonly Column<Point>[],
    circumstances: object,
    titleFor: (point: Point) => string,
  ): (point: Point) => Promise<void> {
    const points: Point[] = [];
    return async (point) => {
      points.push(point);
      const table = markdownTable(columns, points);
      const files = {
        [`${this.name}.md`]: titleFor(point) + table,
        [`${this.name}.csv`]: csvTable(columns, points),
        [`${this.name}.json`]: `${JSON.stringify({ circumstances, points }, null, 2)}\n`,
      };
      await this.write(files, `${table}\n`);
    };
  }
}

/**
 * Applies changes to hyper-parameters. A gate's numbers only apply to its own kind, so a different
 * kind starts from its own defaults.
 */
export function laidOver(
  under: HyperParameterOverrides,
  over: HyperParameterOverrides,
): HyperParameterOverrides {
  const sameKind = over.gate?.kind === undefined || over.gate.kind === under.gate?.kind;
  const gate = { ...(sameKind ? under.gate : {}), ...over.gate };
  return { ...under, ...over, ...(Object.keys(gate).length === 0 ? {} : { gate }) };
}
