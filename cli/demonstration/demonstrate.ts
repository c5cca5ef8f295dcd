/** Runs the demonstration for `errata up --demo` and `errata demo`. */
import { openVersions } from '../../infra/config/open-versions.ts';
import type { Configuration } from '../../infra/config/configuration.ts';
import { clientsOf } from '../session/clients.ts';
import { lineagesOverHttp } from '../session/answering.ts';
import { failed } from '../terminal/command-failure.ts';
import type { Output } from '../terminal/output.ts';
import { dim } from '../terminal/colours.ts';
import { StatusLine } from '../terminal/status-line.ts';
import { showEvent, showReport } from './display.ts';
import { noteDemonstration, readDemonstrations } from './history.ts';
import type { DemonstrationReport } from './report.ts';
import { runDemonstration } from './run.ts';

export async function demonstrate(
  output: Output,
  configuration: Configuration,
  lineage: string,
): Promise<DemonstrationReport> {
  const { home, serve } = configuration;
  if (serve.url === null)
    throw failed('the address of `serve` is unknown', 'Give it as ERRATA_SERVE_URL.');
  const server = { url: serve.url, token: serve.token };
  // If `serve` refuses to answer, this fails before anything is sent.
  await lineagesOverHttp(server);
  const run = readDemonstrations(home, lineage).runs + 1;
  noteDemonstration(home, lineage, run, null);
  const line = new StatusLine(output);
  const clients = clientsOf(configuration);
  output.heading(`Demonstration${run === 1 ? '' : ` (run ${run})`}`);
  output.line(
    dim(
      'Facts of many kinds, real and invented: the source of each says which (see errata show 1).',
    ),
  );
  try {
    const report = await runDemonstration({
      clients,
      log: openVersions(configuration).log(lineage),
      server,
      run,
      report: (event) => showEvent(output, line, event),
    });
    line.end();
    noteDemonstration(home, lineage, run, report.passed);
    showReport(output, report);
    return report;
  } finally {
    line.end();
    await clients.close();
  }
}
