import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Configuration } from '../../../infra/config/configuration.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import type { AuditCheck } from '../../../versions/audit/audit-check.ts';
import type { Verification } from '../../../versions/audit/verify.ts';
import { readAuditFile } from '../../input/audit-file.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import {
  EXIT,
  LINEAGE_OPTION,
  type CommandSpecification,
  type ExitCode,
} from '../../session/command.ts';
import type { Output } from '../../terminal/output.ts';
import { whileWaiting } from '../../terminal/progress.ts';
import type { Session } from '../../session/session.ts';

/** `errata verify`: whether the version log is as it was written, from its bytes alone. */
const verify: CommandSpecification<{ lineage?: string; audit?: string }> = {
  usage: 'verify',
  summary: 'check the version log to the last byte',
  description:
    'Reads every entry, blob and registered outcome of a lineage and computes all hashes anew: numbers without a hole, each entry the hash of the one before, blobs as they are named, pairs and probe details that fit their entry, the fold of what holds. A single changed byte is found. Needs nothing that runs. Exits with 1 if anything is wrong. With --audit a file that `errata export --audit` wrote is checked instead: its chain, its seal, what its entries say of one another, and where the lineage is in this version log, every line against it.',
  examples: [
    ['verify', 'the first lineage'],
    ['verify --lineage support --json', 'another one, for a program'],
    ['verify --audit audit.jsonl', 'a file of a lineage, wherever it was written'],
  ],
  operation: 'verify the version log',
  options: (command) =>
    command.option('--audit <file>', 'check an audit file instead').option(...LINEAGE_OPTION),
  async run(session, options) {
    const configuration = session.configuration();
    if (options.audit !== undefined)
      return await verifyAudit(session, configuration, options.audit);
    const lineage = session.lineage(configuration, options.lineage);
    const began = performance.now();
    const found = await whileWaiting(session.output, `verifying ${lineage}`, null, (at) =>
      openVersions(configuration).verify(lineage, at),
    );
    const seconds = (performance.now() - began) / 1_000;
    session.output.result({ ...found, sound: found.findings.length === 0, seconds }, () =>
      describe(session.output, found, seconds),
    );
    return found.findings.length === 0 ? EXIT.ok : EXIT.failure;
  },
};

export default verify;

async function verifyAudit(
  { output, surroundings }: Session,
  configuration: Configuration,
  named: string,
): Promise<ExitCode> {
  const file = resolve(surroundings.workingDirectory, named);
  const { size } = await stat(file).catch((fault: unknown) => {
    throw new CommandFailure(
      'check the audit file',
      `${named} cannot be read (${fault instanceof Error ? fault.message : String(fault)})`,
      null,
      EXIT.usage,
    );
  });
  const check = await whileWaiting(output, `checking ${named}`, size, (at) => {
    const { lines, fileHash } = readAuditFile(file, at);
    return openVersions(configuration).checkAudit(lines, fileHash);
  });
  const sound = check.findings.length === 0;
  output.result({ file, ...check, sound }, () => describeAudit(output, named, check));
  return sound ? EXIT.ok : EXIT.failure;
}

function describeAudit(
  { colours }: Output,
  file: string,
  {
    lineage,
    versions,
    corrections,
    lines,
    bytes,
    sha256,
    findings,
    head,
    exportedAt,
    against,
  }: AuditCheck,
): string {
  const extent = `${versions} version${versions === 1 ? '' : 's'}, ${corrections} corrections hold, ${lines} lines, ${(bytes / 1e6).toFixed(1)} MB`;
  if (findings.length > 0) {
    return [
      `${colours.red('DAMAGED')} ${file}: ${findings.length} finding${findings.length === 1 ? '' : 's'} (${extent})`,
      ...findings.map(({ object, problem }) => `  ${object}\n      ${problem}`),
    ].join('\n');
  }
  return [
    `${colours.green('sound')} ${file}: lineage ${lineage ?? ''}, ${extent}, written ${exportedAt ?? ''}`,
    `HEAD is version ${head.version}, ${head.hash ?? 'none'}.`,
    against.log
      ? `The version log here says the same${against.newer === 0 ? '' : `, and has ${against.newer} version${against.newer === 1 ? '' : 's'} more by now`}.`
      : `${colours.yellow('!')} The version log here has no such lineage, so that the file was held against itself alone: whoever wrote it could have written all of it. Compare its sha256, ${sha256}, or HEAD's hash with one that you trust.`,
  ].join('\n');
}

function describe({ colours }: Output, found: Verification, seconds: number): string {
  const { lineage, versions, corrections, objects, bytes, findings, head } = found;
  const extent = `${versions} version${versions === 1 ? '' : 's'}, ${corrections} corrections hold, ${objects} objects, ${(bytes / 1e6).toFixed(1)} MB, ${seconds.toFixed(1)} s`;
  if (findings.length > 0) {
    return [
      `${colours.red('DAMAGED')} lineage ${lineage}: ${findings.length} finding${findings.length === 1 ? '' : 's'} (${extent})`,
      ...findings.map(({ object, problem }) => `  ${object}\n      ${problem}`),
    ].join('\n');
  }
  const anchor =
    head.version === 0
      ? ''
      : head.anchored
        ? `\nHEAD is version ${head.version}, ${head.hash}.`
        : `\n${colours.yellow('!')} Nothing vouches yet for the last entry, version ${head.version}: its hash is ${head.hash}.`;
  return `${colours.green('sound')} lineage ${lineage}: ${extent}${anchor}`;
}
