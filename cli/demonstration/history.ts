/** Which demonstrations ran in a data folder: one file that says so. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface DemonstrationHistory {
  runs: number;
  lastPassed: boolean | null;
}

export function readDemonstrations(home: string, lineage: string): DemonstrationHistory {
  try {
    const stored = JSON.parse(
      readFileSync(fileOf(home, lineage), 'utf8'),
    ) as Partial<DemonstrationHistory>;
    return {
      runs: Number.isInteger(stored.runs) ? stored.runs! : 0,
      lastPassed: stored.lastPassed ?? null,
    };
  } catch {
    return { runs: 0, lastPassed: null };
  }
}

/**
 * Written before a run with `passed` null, so that a run which was cut short is not taken up under
 * the same ids.
 */
export function noteDemonstration(
  home: string,
  lineage: string,
  runs: number,
  passed: boolean | null,
): void {
  const file = fileOf(home, lineage);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(
    file,
    `${JSON.stringify({ runs, lastPassed: passed } satisfies DemonstrationHistory)}\n`,
  );
}

function fileOf(home: string, lineage: string): string {
  return join(home, 'run', `demonstration-${lineage}.json`);
}
