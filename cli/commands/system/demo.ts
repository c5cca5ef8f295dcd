import { command, EXIT, LINEAGE } from '../../session/command.ts';

/** `errata demo`: sends the demonstration stream to the running system. */
export default command({
  usage: 'demo',
  summary: 'run the demonstration stream (again)',
  description: `Sends the demonstration stream to the running system and checks the results:
corrections, malformed records, a correction that supersedes another, a retraction. A further run
supersedes the corrections of the one before. Exits with 1 when a check fails.`,
  examples: `
demo  runs it and shows each correction before and after`,
  operation: 'run the demonstration',
  options: { lineage: LINEAGE },
  async run(session, options) {
    const { configuration } = session.connected();
    const lineage = session.lineage(configuration, options.lineage);
    const { demonstrate } = await import('../../demonstration/demonstrate.ts');
    const report = await demonstrate(session.output, configuration, lineage);
    if (session.output.json) session.output.result(report, () => '');
    return report.passed ? EXIT.ok : EXIT.failure;
  },
});
