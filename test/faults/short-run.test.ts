/** A short run: every kind of fault and order once, in an order by the seed. */
import { expect, test } from 'vitest';
import { FAULTS } from './faults.ts';
import { faultRun } from './fault-run.ts';
import { reportOf } from './report.ts';

const SEED = 20;
const RECORDS = 90;

test('nothing is lost, doubled or admitted broken, whatever fault there is', async () => {
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
  // Fewer than were committed, since an operator reverts some.
  expect(result.findings.outcomes['committed']).toBeGreaterThan(10);
  expect(result.undos.length).toBeGreaterThan(0);
}, 600_000);
