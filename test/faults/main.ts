/**
 * `npm run test:faults`: breaks the real system repeatedly, and finally checks that nothing was
 * lost, duplicated or wrongly admitted.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { provision } from '../../infra/setup/provision/index.ts';
import { homeFromEnvironment } from '../../infra/config/home.ts';
import { progressOn } from '../../infra/setup/progress.ts';
import { FAULTS } from './faults.ts';
import { faultRun } from './fault-run.ts';
import { reportOf } from './report.ts';

interface Options {
  minutes: number;
  seed: number;
  records?: number;
  only?: string[];
  report?: string;
  keep?: true;
}

const RECORDS_PER_MINUTE = 60;

const program = new Command('npm run test:faults --')
  .description(
    `Kills, pauses and fills up the real system while a known stream of corrections goes through it;
then an independent checker decides from topics and version log whether anything was lost, doubled
or admitted broken. Exits with 1 if so.`,
  )
  .option('--minutes <n>', 'how long faults are inflicted', positive, 5)
  .option(
    '--seed <n>',
    'for the stream and the faults; printed first',
    whole,
    Math.floor(Math.random() * 1_000_000),
  )
  .option('--records <n>', `records of the stream (default: ${RECORDS_PER_MINUTE} a minute)`, whole)
  .option(
    '--only <kinds>',
    `only faults of these kinds, with commas between: ${Object.keys(FAULTS).join(', ')}`,
    kinds,
  )
  .option('--report <file>', 'write the report here as well')
  .option('--keep', 'keep the folder with data and logs');

await program.parseAsync();
const { minutes, seed, records, only, report, keep } = program.opts<Options>();
const print = (line: string): void => void process.stdout.write(`${line}\n`);
// An interruption also ends the servers and processes, which exit handlers kill.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, () => process.exit(1));
try {
  print(`seed ${seed}`);
  await provision(['tensorflow', 'kafka', 'temporal'], {
    home: homeFromEnvironment(),
    device: 'cpu',
    progress: progressOn(process.stderr),
  });
  const result = await faultRun({
    seed,
    records: records ?? Math.ceil(minutes * RECORDS_PER_MINUTE),
    faults: { minutes, ...(only === undefined ? {} : { kinds: only }) },
    print,
    keep: keep === true,
  });
  const text = reportOf(result);
  print(`\n${text}`);
  if (report !== undefined) {
    mkdirSync(path.dirname(report), { recursive: true });
    writeFileSync(report, text);
  }
  process.exit(result.findings.violations.length === 0 ? 0 : 1);
} catch (error) {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(`test:faults: ${text}\n`);
  process.exit(1);
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('expected a number above 0');
  return value;
}

function whole(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0)
    throw new InvalidArgumentError('expected a whole number');
  return value;
}

function kinds(text: string): string[] {
  const named = text.split(',').map((kind) => kind.trim());
  const unknown = named.filter((kind) => FAULTS[kind] === undefined);
  if (unknown.length > 0) throw new InvalidArgumentError(`there is no ${unknown.join(', ')}`);
  return named;
}
