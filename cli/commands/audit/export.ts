import { readAuditFile, writeAuditFile, writeLines } from '../../input/audit-file.ts';
import { command, flag, LINEAGE, option } from '../../session/command.ts';
import { softwareVersion } from '../../session/software-version.ts';
import { failed, misused } from '../../terminal/command-failure.ts';
import { whileWaiting } from '../../terminal/status-line.ts';
import { dim, green } from '../../terminal/colours.ts';

/** `errata export --audit`: writes a lineage to one file that other tools can check. */
export default command({
  usage: 'export',
  summary: 'write a lineage as one file that can be checked elsewhere',
  description: `Writes the log, the outcomes and the aliases of a lineage as JSON Lines, in the
stored bytes. Each line has the hash of the line before, and the last line seals the file. With
--out it also writes <file>.sha256 for \`sha256sum -c\`. docs/audit.md describes the form, which
has only the hashes of pairs. Nothing needs to run.`,
  examples: `
export --audit --out audit.jsonl  the first lineage, with audit.jsonl.sha256 beside it
verify --audit audit.jsonl        checks the file and compares it with the version log`,
  operation: 'export the lineage',
  options: {
    audit: flag('--audit', 'the form of the file, the only one'),
    out: option('-o, --out <file>', 'where to write (default: the standard output)'),
    force: flag('--force', 'replace an existing file'),
    histories: flag('--histories', 'include the archived histories'),
    lineage: LINEAGE,
  },
  async run(session, { audit, out, force, histories, lineage: name }) {
    if (!audit) throw misused('the form of the file is missing', 'Add --audit.');
    const { output } = session;
    const { lineage, versions } = session.open(name);
    const lines = versions.audit(lineage, {
      software: `errata ${softwareVersion()}`,
      exportedAt: new Date().toISOString(),
      histories,
    });
    if (out === undefined) {
      if (output.json)
        throw misused('the lines are JSON already', 'Omit --json, or name a file with --out.');
      const written = await writeLines(session.surroundings.out, lines);
      return output.note(`${written.lines} lines, sha256 ${written.sha256}`);
    }
    const file = session.path(out);
    const written = await whileWaiting(output, `exporting ${lineage}`, () =>
      writeAuditFile(file, lines, force),
    );
    // The file is read back to check what is actually on disk.
    const { lines: again, fileHash } = readAuditFile(file);
    const check = await whileWaiting(output, 'checking the file', () =>
      versions.checkAudit(again, fileHash),
    );
    const [finding] = check.findings;
    if (finding !== undefined || check.sha256 !== written.sha256)
      throw failed(
        `the written file is damaged: ${
          finding === undefined
            ? `its hash is ${check.sha256}`
            : `${finding.object} ${finding.problem}`
        }`,
        '`errata verify` checks whether the log is.',
      );
    const { head } = check;
    output.result({ lineage, file, ...written, head, hashFile: `${file}.sha256` }, () =>
      [
        `${green('written')} ${out}: lineage ${lineage} up to version ` +
          `${head.version}, ${written.lines} lines, ${(written.bytes / 1e6).toFixed(1)} MB`,
        dim(`sha256 ${written.sha256}, in ${out}.sha256 for sha256sum -c`),
        dim(`HEAD ${head.hash ?? 'none'}`),
      ].join('\n'),
    );
  },
});
