/**
 * The harness in short: every kind of fault and of operator's order once, in an order of the seed.
 * `npm run test:faults` runs long.
 */
import { expect, it } from 'vitest';
import { FAULTS } from './faults.ts';
import { faultRun } from './fault-run.ts';
import { reportOf } from './report.ts';

const SEED = 20;
const RECORDS = 90;

it('loses nothing, doubles nothing and lets nothing broken in, whatever kind of fault there is', async () => {
  const lines: string[] = [];
  const result = await faultRun({
    seed: SEED,
    records: RECORDS,
    faults: 'each kind once',
    tell: (line) => lines.push(line),
  });
  expect(result.findings.violations, `${lines.join('\n')}\n${reportOf(result)}`).toEqual([]);
  expect(result.faults.length + result.missed).toBe(Object.keys(FAULTS).length);
  expect(result.versions).toBeGreaterThan(3);
  // Fewer than were committed: an operator takes some back.
  expect(result.findings.fates['committed']).toBeGreaterThan(10);
  expect(result.undos.length).toBeGreaterThan(0);
}, 600_000);
