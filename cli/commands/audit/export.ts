import { resolve } from 'node:path';
import { openVersions } from '../../../infra/config/open-versions.ts';
import { readAuditFile, writeAuditFile, writeLines } from '../../input/audit-file.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { whileWaiting } from '../../terminal/progress.ts';
import { softwareVersion } from '../../session/software-version.ts';

interface Options {
  audit?: true;
  out?: string;
  force?: true;
  histories?: true;
  lineage?: string;
}

/** `errata export --audit`: a lineage as one file that another tool can check. */
const exportCommand: CommandSpecification<Options> = {
  usage: 'export',
  summary: 'write a lineage as one file that can be checked elsewhere',
  description:
    "Writes everything that a lineage's log, register and aliases say as JSON Lines, in the stored bytes, each line with the hash of the line before, sealed at the end; docs/audit.md describes the form and has a short checker in Python. Pairs are not in it, only their hashes. With --out a second file, <file>.sha256, is written for `sha256sum -c`; without, the lines go to the standard output. Reads the version log alone, so nothing needs to run. `errata verify --audit <file>` checks such a file.",
  examples: [
    ['export --audit --out audit.jsonl', 'the first lineage, with audit.jsonl.sha256 beside it'],
    [
      'export --audit --histories --out audit.jsonl',
      'with the archived histories of its workflows',
    ],
    ['verify --audit audit.jsonl', 'whether a file is whole, and says what the log says'],
  ],
  operation: 'export the lineage',
  options: (command) =>
    command
      .option('--audit', 'the form of the file; there is no other')
      .option('-o, --out <file>', 'where to (default: the standard output)')
      .option('--force', 'replace a file that is there')
      .option('--histories', 'with the archived histories')
      .option(...LINEAGE_OPTION),
  async run(session, options) {
    if (options.audit !== true)
      throw new CommandFailure(
        'export the lineage',
        'the form of the file is not named',
        'Say --audit.',
        EXIT.usage,
      );
    const configuration = session.configuration();
    const lineage = session.lineage(configuration, options.lineage);
    const { output, surroundings } = session;
    const lines = openVersions(configuration).audit(lineage, {
      software: `errata ${softwareVersion()}`,
      exportedAt: new Date().toISOString(),
      histories: options.histories === true,
    });
    if (options.out === undefined) {
      if (output.json)
        throw new CommandFailure(
          'export the lineage',
          'the lines themselves are JSON',
          'Leave --json away, or name a file with --out.',
          EXIT.usage,
        );
      const { lines: count, sha256 } = await writeLines(surroundings.out, lines);
      output.note(`${count} lines, sha256 ${sha256}`);
      return EXIT.ok;
    }
    const file = resolve(surroundings.workingDirectory, options.out);
    const written = await whileWaiting(output, `exporting ${lineage}`, null, (at) =>
      writeAuditFile(file, lines, options.force === true, at),
    );
    // What is on disk is what counts: it is read again before anybody is told that it is sound.
    const { lines: again, fileHash } = readAuditFile(file, () => {});
    const check = await whileWaiting(output, 'checking it', null, () =>
      openVersions(configuration).checkAudit(again, fileHash),
    );
    if (check.findings.length > 0 || check.sha256 !== written.sha256)
      throw new CommandFailure(
        'export the lineage',
        `what was written is not sound: ${check.findings[0] === undefined ? `it hashes to ${check.sha256}` : `${check.findings[0].object} ${check.findings[0].problem}`}`,
        '`errata verify` says whether the log is.',
      );
    output.result({ lineage, file, ...written, head: check.head, hashFile: `${file}.sha256` }, () =>
      [
        `${output.colours.green('written')} ${options.out}: lineage ${lineage} up to version ${check.head.version}, ${written.lines} lines, ${(written.bytes / 1e6).toFixed(1)} MB`,
        output.colours.dim(`sha256 ${written.sha256}, in ${options.out}.sha256 for sha256sum -c`),
        output.colours.dim(`HEAD ${check.head.hash ?? 'none'}`),
      ].join('\n'),
    );
    return EXIT.ok;
  },
};

export default exportCommand;
