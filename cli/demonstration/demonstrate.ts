/** The demonstration as `errata up --demo` and `errata demo` run it. */
import { openVersions } from '../../infra/config/open-versions.ts';
import type { Configuration } from '../../infra/config/configuration.ts';
import { clientsOf } from '../session/clients.ts';
import { CommandFailure } from '../session/command-failure.ts';
import { lineagesOverHttp } from '../session/answering.ts';
import type { Output } from '../terminal/output.ts';
import { StatusLine } from '../terminal/status-line.ts';
import { showEvent, showReport } from './display.ts';
import { noteDemonstration, readDemonstrations } from './history.ts';
import { runDemonstration, type DemonstrationReport } from './run.ts';

/**
 * Runs it and shows it; resolves with the report. The configuration is that of the running system.
 */
export async function demonstrate(
  output: Output,
  configuration: Configuration,
  lineage: string,
): Promise<DemonstrationReport> {
  if (configuration.serve.url === null)
    throw new CommandFailure(
      'run the demonstration',
      'no `serve` is known',
      'ERRATA_SERVE_URL says where one is.',
    );
  const server = { url: configuration.serve.url, token: configuration.serve.token };
  // Now, and not when everything is sent: without a token, say, it could not be seen what came of
  // it.
  await lineagesOverHttp(server);
  const run = readDemonstrations(configuration.home, lineage).runs + 1;
  noteDemonstration(configuration.home, lineage, run, null);
  const line = new StatusLine(output);
  const clients = clientsOf(configuration);
  output.heading(`Demonstration${run === 1 ? '' : ` (run ${run})`}`);
  output.line(
    output.colours.dim(
      'Facts of many kinds, real and invented: the source of each says which (see errata show 1).',
    ),
  );
  try {
    const report = await runDemonstration({
      clients,
      log: openVersions(configuration).log(lineage),
      lineage,
      server,
      run,
      told: (event) => showEvent(output, line, event),
    });
    line.end();
    noteDemonstration(configuration.home, lineage, run, report.passed);
    showReport(output, report);
    return report;
  } finally {
    line.end();
    await clients.close();
  }
}
