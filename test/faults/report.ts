import type { RunResult } from './fault-run.ts';

export function reportOf(result: RunResult): string {
  const { seed, startedAt, seconds, findings } = result;
  const counts = (numbers: Record<string, number>): string[] =>
    Object.entries(numbers)
      .sort(([, a], [, b]) => b - a)
      .map(([name, count]) => `  ${String(count).padStart(6)}  ${name}`);
  const kinds: Record<string, number> = {};
  for (const { kind } of result.faults) kinds[kind] = (kinds[kind] ?? 0) + 1;
  return [
    `Fault run, seed ${seed}`,
    `  ${startedAt.toISOString()}, ${minutes(seconds.whole)} in all: ` +
      `${minutes(seconds.faults)} of faults, ` +
      `${minutes(seconds.drain)} until everything was decided`,
    ...(result.minutes === null
      ? []
      : [`  Again: npm run test:faults -- --minutes ${result.minutes} --seed ${seed}`]),
    '',
    `${result.sent} records sent`,
    ...counts(result.records),
    '',
    'Their outcomes (a record sent twice counts twice)',
    ...counts(findings.outcomes),
    `  in ${result.versions} versions`,
    '',
    `${result.faults.length} faults (${result.missed} more had nothing to break)`,
    ...counts(kinds),
    '',
    ...(result.undos.length === 0
      ? []
      : [
          `${result.undos.length} undos: ${Object.entries(endsOf(result))
            .map(([end, count]) => `${count} ${end}`)
            .join(', ')}`,
          '',
        ]),
    `Starts: ${Object.entries(result.starts)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ')}`,
    `serve answered ${result.serve.asked} times, out of ${result.serve.versions} versions`,
    '',
    'Checked, from the topics and the version log alone',
    ...findings.checks.map((line) => `  ${line}`),
    '',
    `${findings.violations.length} violations`,
    ...findings.violations.map((line) => `  ${line}`),
    '',
    'The faults, by seconds from the start',
    ...result.faults.map(({ atSeconds, done }) => `  ${String(atSeconds).padStart(6)}  ${done}`),
    '',
  ].join('\n');
}

function endsOf({ undos }: RunResult): Record<string, number> {
  const ends: Record<string, number> = {};
  for (const { end } of undos) {
    const kind = end.kind === 'ended' ? end.result.kind : end.kind;
    ends[kind] = (ends[kind] ?? 0) + 1;
  }
  return ends;
}

function minutes(seconds: number): string {
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
