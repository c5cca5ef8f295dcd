/** Under which circumstances something was measured, as every report says them. */
import { execFileSync } from 'node:child_process';
import { availableParallelism, cpus, loadavg } from 'node:os';
import { PROJECT_ROOT } from '../infra/config/home.ts';

export interface Circumstances {
  command: string;
  date: string;
  commit: string;
  cores: number;
  processor: string;
  /** The machine's load average of the minute before. */
  loadBefore: number;
  node: string;
}

/** `script` is the npm script that this process runs. */
export function circumstances(script: string): Circumstances {
  return {
    command: [`npm run ${script} --`, ...process.argv.slice(2)].join(' '),
    date: new Date().toISOString(),
    commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
      cwd: PROJECT_ROOT,
      encoding: 'utf8',
    }).trim(),
    cores: availableParallelism(),
    processor: cpus()[0]?.model ?? 'unknown',
    loadBefore: loadavg()[0]!,
    node: process.version,
  };
}

/** The head of a report. */
export function circumstancesText(
  title: string,
  { command, date, cores, processor, node, commit, loadBefore }: Circumstances,
): string {
  return `# ${title}\n\n\`${command}\`\n\n${date.slice(0, 10)}, ${cores} cores (${processor}), Node.js ${node}, commit ${commit}; load average before ${loadBefore.toFixed(2)}.\n`;
}
