import { stat } from 'node:fs/promises';
import { openVersions } from '../../../infra/config/open-versions.ts';
import type { AuditCheck } from '../../../versions/audit/audit-check.ts';
import type { Verification } from '../../../versions/audit/verify.ts';
import { readAuditFile } from '../../input/audit-file.ts';
import { command, EXIT, LINEAGE, option, type ExitCode } from '../../session/command.ts';
import type { Session } from '../../session/session.ts';
import { messageOf, misused } from '../../terminal/command-failure.ts';
import { green, red, yellow } from '../../terminal/colours.ts';
import { counted } from '../../terminal/text.ts';
import { whileWaiting } from '../../terminal/status-line.ts';

/** `errata verify`: checks the integrity of the version log from its bytes alone. */
export default command({
  usage: 'verify',
  summary: 'check every byte of the version log',
  description: `Reads every entry, blob and outcome of a lineage and recomputes all hashes, so
that a single changed byte is found. With --audit it checks a file that \`errata export --audit\`
wrote, and compares it with this version log where that has the lineage. Nothing needs to run.
Exits with 1 if anything is wrong.`,
  examples: `
verify                      the first lineage
verify --audit audit.jsonl  an audit file, wherever it was written`,
  operation: 'verify the version log',
  options: {
    audit: option('--audit <file>', 'check an audit file instead'),
    lineage: LINEAGE,
  },
  async run(session, options) {
    if (options.audit !== undefined) return await verifyAudit(session, options.audit);
    const { output } = session;
    const { lineage, versions } = session.open(options.lineage);
    const startedMs = performance.now();
    const found = await whileWaiting(output, `verifying ${lineage}`, (at) =>
      versions.verify(lineage, at),
    );
    const seconds = (performance.now() - startedMs) / 1_000;
    const sound = found.findings.length === 0;
    output.result({ ...found, sound, seconds }, () => logText(found, seconds));
    return sound ? EXIT.ok : EXIT.failure;
  },
});

async function verifyAudit(session: Session, name: string): Promise<ExitCode> {
  const { output } = session;
  const versions = openVersions(session.configuration());
  const file = session.path(name);
  const { size } = await stat(file).catch((error: unknown) => {
    throw misused(`${name} cannot be read (${messageOf(error)})`);
  });
  const check = await whileWaiting(
    output,
    `checking ${name}`,
    (at) => {
      const { lines, fileHash } = readAuditFile(file, at);
      return versions.checkAudit(lines, fileHash);
    },
    size,
  );
  const sound = check.findings.length === 0;
  output.result({ file, ...check, sound }, () => auditText(name, check));
  return sound ? EXIT.ok : EXIT.failure;
}

function auditText(file: string, check: AuditCheck): string {
  const { lineage, lines, findings, head, exportedAt, against, sha256 } = check;
  const extent = `${extentText(check)}, ${lines} lines, ${megabytes(check.bytes)}`;
  if (findings.length > 0) return damageText(red('DAMAGED'), file, findings, extent);
  const newer =
    against.log && against.newer > 0 ? `, and has ${counted(against.newer, 'newer version')}` : '';
  return [
    `${green('sound')} ${file}: lineage ${lineage ?? ''}, ${extent}, ` +
      `written ${exportedAt ?? ''}`,
    `HEAD is version ${head.version}, ${head.hash ?? 'none'}.`,
    against.log
      ? `The version log agrees with it${newer}.`
      : `${yellow('!')} This version log does not have the lineage, so the file was only ` +
        'compared with itself; its author could have invented it. Compare its sha256, ' +
        `${sha256}, or HEAD's hash with one that you trust.`,
  ].join('\n');
}

function logText(found: Verification, seconds: number): string {
  const { lineage, objects, bytes, findings, head } = found;
  const extent =
    `${extentText(found)}, ${counted(objects, 'object')}, ${megabytes(bytes)}, ` +
    `${seconds.toFixed(1)} s`;
  if (findings.length > 0)
    return damageText(red('DAMAGED'), `lineage ${lineage}`, findings, extent);
  const anchor = head.anchored
    ? `HEAD is version ${head.version}, ${head.hash}.`
    : `${yellow('!')} No other object confirms the last entry, version ${head.version}, ` +
      `yet: its hash is ${head.hash}.`;
  const sound = `${green('sound')} lineage ${lineage}: ${extent}`;
  return head.version === 0 ? sound : `${sound}\n${anchor}`;
}

function damageText(
  damaged: string,
  what: string,
  findings: Verification['findings'],
  extent: string,
): string {
  return [
    `${damaged} ${what}: ${counted(findings.length, 'finding')} (${extent})`,
    ...findings.map(({ object, problem }) => `  ${object}\n      ${problem}`),
  ].join('\n');
}

function extentText({ versions, corrections }: { versions: number; corrections: number }): string {
  return `${counted(versions, 'version')}, ${counted(corrections, 'correction')} hold`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
