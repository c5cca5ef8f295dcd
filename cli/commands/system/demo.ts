import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';

interface Options {
  lineage?: string;
}

/** `errata demo`: the demonstration stream, against the running system. */
const demo: CommandSpecification<Options> = {
  usage: 'demo',
  summary: 'run the demonstration stream (again)',
  description:
    'Sends the demonstration stream to the running system and checks what comes of it: corrections, malformed records, a correction that supersedes another, a retraction. A further run supersedes the corrections of the one before. Exit code 1 when a check fails.',
  examples: [['demo', 'runs it and shows each correction before and after']],
  operation: 'run the demonstration',
  options: (command) => command.option(...LINEAGE_OPTION),
  async run(session, options) {
    const { configuration } = session.connected('run the demonstration');
    const { demonstrate } = await import('../../demonstration/demonstrate.ts');
    const report = await demonstrate(
      session.output,
      configuration,
      session.lineage(configuration, options.lineage),
    );
    if (session.output.json) session.output.result(report, () => '');
    return report.passed ? EXIT.ok : EXIT.failure;
  },
};

export default demo;
