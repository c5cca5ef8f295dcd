import { expect, test } from 'vitest';
import { loadReport, type LoadResult } from '../../bench/load/report.ts';
import { loadCorrections } from '../../bench/load/load-corrections.ts';
import { figuresOf, growthPerMinute, watchProcesses } from '../../bench/load/process-figures.ts';
import { recordCodec } from '../../schemas/records/avro.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';
import { factKeyOf } from '../../schemas/correction.ts';

test('load corrections are sound, distinct and repeatable', () => {
  const corrections = loadCorrections('load', 100, 500);
  expect(corrections.flatMap(faultsOf)).toEqual([]);
  expect(new Set(corrections.map(factKeyOf)).size).toBe(500);
  expect(new Set(corrections.map(({ id }) => id)).size).toBe(500);
  expect(loadCorrections('load', 100, 500)).toEqual(corrections);
});

test('load corrections are as long as those that people write', () => {
  const corrections = loadCorrections('load', 100, 500);
  const codec = recordCodec('fact-correction');
  const bytes = corrections.reduce((sum, one) => sum + codec.encode(one).length, 0);
  expect(bytes / 500).toBeGreaterThan(500);
  expect(bytes / 500).toBeLessThan(700);
});

test('memory and processor time agree with what Node reports', () => {
  const until = process.cpuUsage().user + 100_000;
  while (process.cpuUsage().user < until);
  const secondsOf = ({ user, system }: NodeJS.CpuUsage) => (user + system) / 1e6;
  const before = secondsOf(process.cpuUsage());
  const { residentBytes, cpuSeconds } = figuresOf(process.pid);
  const after = secondsOf(process.cpuUsage());
  expect(residentBytes / process.memoryUsage.rss()).toBeCloseTo(1, 0);
  // The kernel counts user and system time in whole hundredths of a second.
  expect(cpuSeconds).toBeGreaterThan(before - 0.03);
  expect(cpuSeconds).toBeLessThan(after + 0.03);
});

test('a process that has ended is not sampled', () => {
  const { memory } = watchProcesses(() => ({ self: process.pid, gone: 2 ** 30 }))();
  expect(memory.map(({ name, lastBytes }) => [name, lastBytes > 0])).toEqual([['self', true]]);
});

test('growth is the slope through all samples', () => {
  const at = (atMs: number, residentBytes: number) => ({ atMs, residentBytes, cpuSeconds: 0 });
  expect(growthPerMinute([at(0, 100), at(30_000, 150), at(60_000, 200)])).toBeCloseTo(100);
  expect(growthPerMinute([at(0, 100), at(20_000, 300), at(40_000, 100)])).toBeCloseTo(0);
  expect(growthPerMinute([at(0, 100)])).toBe(0);
});

test('a record that is found nowhere is reported missing', () => {
  const whereabouts = { produced: 100, inKafka: 60, inWorkflows: 30, decided: 10 };
  const machine = { commit: '', cores: 2, processor: '', loadBefore: 0, node: '', options: {} };
  const phases = { filling: [], fillingSeconds: 1, waiting: [], waitingSeconds: 1, histories: [] };
  const result = (inKafka: number): LoadResult => ({
    command: '',
    date: '2026-01-01T00:00:00Z',
    ...machine,
    backlog: { records: 100, ...phases, whereabouts: { ...whereabouts, inKafka } },
  });
  expect(loadReport(result(60))).toContain('= 100 of 100.');
  expect(loadReport(result(57))).toContain('3 MISSING');
});
