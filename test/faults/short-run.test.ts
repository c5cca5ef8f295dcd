/** A short run: every kind of fault and order once, in seeded order. */
import { expect, test } from 'vitest';
import { FAULTS } from './faults.ts';
import { faultRun } from './fault-run.ts';
import { reportOf } from './report.ts';

const SEED = 20;
const RECORDS = 90;

test('no fault loses, duplicates or wrongly admits anything', async () => {
  const lines: string[] = [];
  const result = await faultRun({
    seed: SEED,
    records: RECORDS,
    faults: 'each kind once',
    print: (line) => lines.push(line),
  });
  expect(result.findings.violations, `${lines.join('\n')}\n${reportOf(result)}`).toEqual([]);
  expect(result.faults.length + result.missed).toBe(Object.keys(FAULTS).length);
  expect(result.versions).toBeGreaterThan(3);
  // The count is below the number of commits, since an operator reverts some.
  expect(result.findings.outcomes['committed']).toBeGreaterThan(10);
  expect(result.undos.length).toBeGreaterThan(0);
}, 600_000);
