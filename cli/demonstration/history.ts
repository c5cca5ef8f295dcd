/** Records which demonstrations ran in a data folder: one small file per lineage. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface DemonstrationHistory {
  runs: number;
  lastPassed: boolean | null;
}

export function readDemonstrations(home: string, lineage: string): DemonstrationHistory {
  try {
    const text = readFileSync(fileOf(home, lineage), 'utf8');
    const { runs, lastPassed } = JSON.parse(text) as Partial<DemonstrationHistory>;
    return { runs: Number.isInteger(runs) ? runs! : 0, lastPassed: lastPassed ?? null };
  } catch {
    return { runs: 0, lastPassed: null };
  }
}

/** Writes `passed` as null before a run, so that the ids of an interrupted run are not reused. */
export function noteDemonstration(
  home: string,
  lineage: string,
  runs: number,
  passed: boolean | null,
): void {
  const file = fileOf(home, lineage);
  mkdirSync(dirname(file), { recursive: true });
  const history: DemonstrationHistory = { runs, lastPassed: passed };
  writeFileSync(file, `${JSON.stringify(history)}\n`);
}

function fileOf(home: string, lineage: string): string {
  return join(home, 'run', `demonstration-${lineage}.json`);
}
