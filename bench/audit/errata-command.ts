/** Times `errata` commands, from process start to exit. */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { PROJECT_ROOT } from '../../infra/config/home.ts';
import type { LocalEngine } from '../../model/engine/local-engine.ts';
import { OPEN } from '../../serving/access/access.ts';
import { createServing } from '../../serving/server.ts';
import type { ActiveCorrection } from '../../versions/log/history.ts';
import { STUDY_LINEAGE, type EditedStream } from '../edited-stream.ts';

type Environment = Record<string, string>;

export interface WhySeconds {
  asked: 'correction id' | 'subject' | 'prompt, of a running serve';
  seconds: number[];
  /** Answers that name the right correction. */
  named: number;
}

/** Runs `errata why` in three forms on corrections from throughout the lineage. */
export async function measureWhy(
  engine: LocalEngine,
  { log, versions }: EditedStream,
  questions: number,
  environment: Environment,
): Promise<WhySeconds[]> {
  const all = [...(await log.read()).active.values()];
  const count = Math.min(questions, all.length);
  const chosen = Array.from(
    { length: count },
    (_, i) => all[Math.floor((i * all.length) / count)]!,
  );
  const serving = createServing({
    engine,
    versions,
    logger: pino({ level: 'silent' }),
    users: () => OPEN,
    lineages: [STUDY_LINEAGE],
  });
  await serving.start();
  const url = await serving.server.listen({ host: '127.0.0.1', port: 0 });
  const ask = async (
    asked: WhySeconds['asked'],
    args: (one: ActiveCorrection) => string[],
    given: Environment = {},
  ): Promise<WhySeconds> => {
    const seconds: number[] = [];
    let named = 0;
    for (const one of chosen) {
      const began = performance.now();
      const command = ['why', ...args(one)];
      const { stdout } = await errata(command, { ...environment, ...given }, WHY_WAIT_MS);
      seconds.push((performance.now() - began) / 1_000);
      if (stdout.includes(JSON.stringify(one.correctionId))) named++;
    }
    return { asked, seconds, named };
  };
  try {
    return [
      await ask('correction id', ({ correctionId }) => ['--correction', correctionId]),
      await ask('subject', ({ subject }) => ['--subject', subject]),
      await ask('prompt, of a running serve', ({ prompt }) => ['--prompt', prompt], {
        ERRATA_SERVE_URL: url,
      }),
    ];
  } finally {
    await serving.close();
  }
}

/** Runs `errata rebuild`. `report` is its output, even if the rebuild differs. */
export async function measureRebuild(
  environment: Environment,
): Promise<{ seconds: number; report: unknown }> {
  const began = performance.now();
  const args = ['rebuild', '--lineage', STUDY_LINEAGE, '--as', 'rebuilt'];
  const running = errata(args, environment);
  running.child.stderr?.pipe(process.stderr);
  const { stdout } = await running.catch((error: Error & { stdout: string }) => error);
  const seconds = (performance.now() - began) / 1_000;
  try {
    return { seconds, report: JSON.parse(stdout) as unknown };
  } catch (error) {
    throw new Error('errata rebuild printed no report', { cause: error });
  }
}

const OUTPUT_BYTES_MAX = 64 * 2 ** 20;
const WHY_WAIT_MS = 120_000;

function errata(args: string[], environment: Environment, timeout = 0) {
  return promisify(execFile)(
    process.execPath,
    [path.join(PROJECT_ROOT, 'cli', 'errata.mjs'), ...args, '--json'],
    { env: { ...process.env, ...environment }, maxBuffer: OUTPUT_BYTES_MAX, timeout },
  );
}
