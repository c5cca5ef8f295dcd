import { execFileSync } from 'node:child_process';
import { availableParallelism, cpus, loadavg } from 'node:os';
import { PROJECT_ROOT } from '../infra/config/home.ts';

export type Circumstances = ReturnType<typeof circumstances>;

/** Describes this process's machine and software. `script` is the npm script being run. */
export function circumstances(script: string) {
  return {
    command: [`npm run ${script} --`, ...process.argv.slice(2)].join(' '),
    date: new Date().toISOString(),
    commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
      cwd: PROJECT_ROOT,
      encoding: 'utf8',
    }).trim(),
    cores: availableParallelism(),
    processor: cpus()[0]?.model ?? 'unknown',
    /** Load average over the last minute. */
    loadBefore: loadavg()[0]!,
    node: process.version,
  };
}

export function circumstancesText(title: string, of: Circumstances): string {
  return `# ${title}

\`${of.command}\`

${of.date.slice(0, 10)}, ${of.cores} cores (${of.processor}), Node.js ${of.node}, \
commit ${of.commit}; load average before ${of.loadBefore.toFixed(2)}.
`;
}
