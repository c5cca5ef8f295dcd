/**
 * Rebuilds a lineage in this process, version by version, as a new lineage in the same version log.
 * The log of the new lineage is the only state, so a killed rebuild continues from there.
 *
 * On the same base and with the same hyper-parameters each version is reproduced. With others the
 * result is a fork: the same revisions are edited again and the verdict decides. If the log is
 * lost, the revisions come from the records of the topic.
 */
import type { VersionLog } from '../../versions/log/version-log.ts';
import { forkLineage } from './forked-lineage.ts';
import { rebuildFromRecords } from './lineage-from-records.ts';
import { sameParameters } from './rebuild-engines.ts';
import {
  RebuildRefused,
  RebuildRun,
  type RebuildRequest,
  type RebuildSurroundings,
  type Rebuilt,
} from './rebuild-run.ts';
import { checkRecords } from './records-check.ts';
import { reproduceLineage } from './reproduced-lineage.ts';
import { compareVersions } from './reproduction.ts';

/** Throws `RebuildRefused` where the rebuild cannot begin or go on. */
export async function rebuildLineage(
  request: RebuildRequest,
  around: RebuildSurroundings,
): Promise<Rebuilt> {
  const startedAt = performance.now();
  const run = new RebuildRun(request, around);
  const { source, rebuilt, result } = run;
  if (request.lineage === request.as)
    throw new RebuildRefused(
      `lineage ${request.as} is the one to be rebuilt`,
      'Name a new one with --as: nothing that is written is ever changed.',
    );
  result.due = await dueVersions(source, request.to);
  result.began = (await rebuilt.read()).head.version;
  if (result.due === 0) await rebuildFromRecords(run);
  else {
    if (request.from === 'kafka') await checkAgainstKafka(run);
    if (request.fork && !(await isSameAgain(run))) await forkLineage(run);
    else await reproduceLineage(run);
  }
  result.head = (await rebuilt.read()).head.version;
  if (result.kind === 'reproduction')
    result.reproduction = await compareVersions(source, rebuilt, result.due, (version) =>
      around.progress('comparing the versions', version, result.due),
    );
  result.seconds = (performance.now() - startedAt) / 1_000;
  return result;
}

/** Returns the last version to rebuild: the requested one, or the source's last sound one. */
export async function dueVersions(source: VersionLog, to: number | null): Promise<number> {
  const { version } = (await source.readSound()).history.head;
  if (to !== null && to > version)
    throw new RebuildRefused(
      `lineage ${source.lineage} has versions up to ${version}, not ${to}`,
      '`errata log` lists them.',
    );
  return to ?? version;
}

async function checkAgainstKafka(run: RebuildRun): Promise<void> {
  const { around, source, result } = run;
  around.progress('reading the records', 0, null);
  const { checked, revised } = await checkRecords(around.kafka!(), source, result.due);
  result.words = checked;
  run.revised = revised;
}

/** A fork with the lineage's own model and hyper-parameters is made as a reproduction. */
async function isSameAgain({ around, source, result }: RebuildRun): Promise<boolean> {
  const { base, parameters } = (await source.entry(result.due)).entry;
  const { madeWith } = await around.engines.with(null);
  return madeWith.base.sha256 === base.sha256 && sameParameters(madeWith.parameters, parameters);
}
