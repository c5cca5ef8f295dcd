import type { Configuration } from '../../../infra/config/configuration.ts';
import { engineOptions, parametersOf } from '../../../infra/config/engine-options.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import { ThreadEngine } from '../../../model/engine/thread-engine.ts';
import type { LineageComparison } from '../../../operations/compare/compare-lineages.ts';
import { RebuildEngines, sameParameters } from '../../../operations/rebuild/rebuild-engines.ts';
import { planRebuild } from '../../../operations/rebuild/rebuild-plan.ts';
import type { RebuildRequest } from '../../../operations/rebuild/rebuild-run.ts';
import { dueVersions, rebuildLineage } from '../../../operations/rebuild/rebuild.ts';
import { compareVersions } from '../../../operations/rebuild/reproduction.ts';
import type { HyperParameterOverrides } from '../../../schemas/hyper-parameters.ts';
import type { Versions } from '../../../versions/versions.ts';
import type { Clients } from '../../session/clients.ts';
import { EXIT, type ExitCode } from '../../session/command.ts';
import type { Session } from '../../session/session.ts';
import { failed, misused } from '../../terminal/command-failure.ts';
import { listenForInterruption } from '../../terminal/interruption.ts';
import { StatusLine, whileWaiting } from '../../terminal/status-line.ts';
import { compareLineages, comparisonText } from './compare.ts';
import { isReproduced, planText, rebuiltText, reproductionText } from './rebuild-text.ts';

interface RebuildOptions {
  lineage: string | undefined;
  as: string;
  from: 'log' | 'kafka';
  to: number | undefined;
  model: string | undefined;
  hyperParameters: HyperParameterOverrides | undefined;
  parameterSet: string | undefined;
  dryRun: boolean;
  compareOnly: boolean;
  anyway: boolean;
}

export async function runRebuild(session: Session, options: RebuildOptions): Promise<ExitCode> {
  const own = session.configuration();
  const lineage = options.lineage ?? own.lineages[0]!;
  const versions = openVersions(own);
  await requireSound(session, versions, lineage, options.anyway);
  const { model, hyperParameters, parameterSet } = options;
  const request: RebuildRequest = {
    lineage,
    as: options.as,
    from: options.from,
    to: options.to ?? null,
    fork: [model, hyperParameters, parameterSet].some((value) => value !== undefined),
    settings: own.settings[lineage] ?? own.settings[own.lineages[0]!]!,
  };
  const other = forkConfiguration(session, options);
  const job: Job = { session, options, own, other, versions, request };
  if (options.compareOnly) return await compareOnly(job);
  const work = options.dryRun ? showPlan : rebuild;
  if (options.from === 'log') return await work(job, null);
  const { configuration } = session.connected();
  return await session.withClients(configuration, (clients) => work(job, clients));
}

interface Job {
  session: Session;
  options: RebuildOptions;
  own: Configuration;
  other: Configuration;
  versions: Versions;
  request: RebuildRequest;
}

async function requireSound(
  { output }: Session,
  versions: Versions,
  lineage: string,
  anyway: boolean,
): Promise<void> {
  const { findings } = await whileWaiting(output, `verifying ${lineage}`, (at) =>
    versions.verify(lineage, at),
  );
  const [first] = findings;
  if (first === undefined || anyway) return;
  const more = findings.length > 1 ? `, and ${findings.length - 1} more findings` : '';
  throw failed(
    `its log is damaged: ${first.object} ${first.problem}${more}`,
    `\`errata verify --lineage ${lineage}\` lists them; --anyway rebuilds what can be read.`,
  );
}

async function rebuild(job: Job, kafka: Clients | null): Promise<ExitCode> {
  const { session, own, other, versions, request } = job;
  const { output } = session;
  const line = new StatusLine(output);
  const forked = await forkParameters(job);
  const open = (recorded: HyperParameterOverrides | null) => {
    const parameters = recorded ?? forked;
    return ThreadEngine.open(
      { ...engineOptions(recorded === null ? other : own), ...(parameters && { parameters }) },
      (label, share) => line.set(label, Math.round(100 * share), 100),
    );
  };
  const engines = new RebuildEngines(open, versions);
  let stopped = false;
  const interruption = listenForInterruption();
  void interruption.came.then(() => {
    stopped = true;
    output.note('Stopping after this version; the same command continues from there.');
  });
  try {
    const rebuilt = await rebuildLineage(request, {
      versions,
      engines,
      kafka: kafka === null ? null : () => kafka,
      progress: (label, done, of) => line.set(label, done, of ?? 0),
      stopped: () => stopped,
    });
    await engines.close();
    line.end();
    const forkMade = rebuilt.kind === 'fork' && !rebuilt.interrupted && rebuilt.head > 0;
    const comparison = forkMade ? await compareFork(job) : null;
    const text = () => (comparison === null ? [] : ['', comparisonText(comparison, output)]);
    output.result({ ...rebuilt, comparison }, () =>
      [rebuiltText(rebuilt, output), ...text()].join('\n'),
    );
    if (rebuilt.interrupted) return EXIT.interrupted;
    return isReproduced(rebuilt) ? EXIT.ok : EXIT.failure;
  } finally {
    line.end();
    interruption.end();
    await engines.close();
  }
}

/** Compares the lineage with its fork. The fork's entries contain its hyper-parameters. */
async function compareFork(job: Job): Promise<LineageComparison> {
  const { session, own, other, versions, request } = job;
  return await compareLineages(
    session.output,
    { log: versions.log(request.lineage), version: request.to, model: engineOptions(own) },
    { log: versions.log(request.as), version: null, model: engineOptions(other) },
  );
}

async function compareOnly(job: Job): Promise<ExitCode> {
  const { session, versions, request } = job;
  const { output } = session;
  const [source, rebuilt] = [versions.log(request.lineage), versions.log(request.as)];
  const { latest } = await rebuilt.read();
  if (latest === null)
    throw misused(
      `lineage ${request.as} has no versions, so there is nothing to compare`,
      'Without --compare-only it is rebuilt.',
    );
  const due = await dueVersions(source, request.to);
  if (due === 0)
    throw misused(
      `lineage ${request.lineage} has no versions, so there is nothing to compare with`,
      '`errata log` lists the versions of a lineage.',
    );
  const { base, parameters } = (await source.entry(due)).entry;
  const { entry } = latest;
  if (base.sha256 !== entry.base.sha256 || !sameParameters(parameters, entry.parameters)) {
    const comparison = await compareFork(job);
    output.result(comparison, () => comparisonText(comparison, output));
    return EXIT.ok;
  }
  const reproduction = await whileWaiting(
    output,
    'comparing the versions',
    (at) => compareVersions(source, rebuilt, due, at),
    due,
  );
  output.result(reproduction, () => reproductionText(reproduction, output));
  return reproduction.reproduces === 'no' ? EXIT.failure : EXIT.ok;
}

async function showPlan(job: Job, kafka: Clients | null): Promise<ExitCode> {
  const { session, versions, request } = job;
  const plan = await planRebuild(versions, request, kafka?.cluster ?? null);
  session.output.result({ dryRun: true, ...plan }, () => planText(plan));
  return plan.obstacles.length === 0 ? EXIT.ok : EXIT.failure;
}

function forkConfiguration(
  session: Session,
  { model, parameterSet }: RebuildOptions,
): Configuration {
  if (model === undefined && parameterSet === undefined) return session.configuration();
  return session.configuration({
    ...(model !== undefined && { ERRATA_MODEL: model }),
    // The configured hyper-parameters belong to the configured model and parameter set.
    ERRATA_HYPER_PARAMETERS: '{}',
    ERRATA_PARAMETER_SET: parameterSet === undefined ? '' : session.path(parameterSet),
  });
}

/** Returns a fork's hyper-parameters; null if the rebuild is not a fork. */
async function forkParameters({
  options,
  other,
  versions,
  request,
}: Job): Promise<HyperParameterOverrides | null> {
  if (!request.fork) return null;
  const { model, parameterSet, hyperParameters: given = {} } = options;
  const { latest } = (await versions.log(request.lineage).readSound()).history;
  const own =
    model === undefined && parameterSet === undefined && latest !== null
      ? (latest.entry.parameters as HyperParameterOverrides)
      : parametersOf(other);
  const gate = { ...own.gate, ...given.gate };
  return { ...own, ...given, ...(Object.keys(gate).length > 0 && { gate }) };
}
