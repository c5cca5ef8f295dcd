/** Plans a rebuild from stored data; loads no model and writes nothing. */
import type { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import type { Versions } from '../../versions/versions.ts';
import { rebuiltBy, type RebuildKind, type RebuildRequest } from './rebuild-run.ts';
import { dueVersions } from './rebuild.ts';

export interface RebuildPlan {
  lineage: string;
  as: string;
  /** A fork with the same model and hyper-parameters is planned as a reproduction. */
  kind: RebuildKind;
  /** Versions of the lineage to be made again; 0 if its log is lost. */
  versions: number;
  /** Number of these versions that the new lineage already has. */
  there: number;
  corrections: number;
  searches: number;
  undos: number;
  /** Records of the lineage's topic that Kafka has and no longer has; null without Kafka. */
  records: { there: string; gone: string } | null;
  /** The reasons that prevent the rebuild. */
  obstacles: string[];
}

export async function planRebuild(
  versions: Versions,
  request: RebuildRequest,
  cluster: KafkaCluster | null,
): Promise<RebuildPlan> {
  const source = versions.log(request.lineage);
  const due = await dueVersions(source, request.to);
  const rebuilt = await versions.log(request.as).read();
  const plan: RebuildPlan = {
    lineage: request.lineage,
    as: request.as,
    kind: due === 0 ? 'from-records' : request.fork ? 'fork' : 'reproduction',
    versions: due,
    there: rebuilt.head.version,
    corrections: 0,
    searches: 0,
    undos: 0,
    records: null,
    obstacles: [],
  };
  const searches = new Set<string>();
  for await (const { entry } of source.walk()) {
    if (entry.version > due) break;
    plan.corrections += entry.undo === undefined ? entry.added.length : 0;
    plan.undos += entry.undo === undefined ? 0 : 1;
    for (const { sha256 } of entry.searches) searches.add(sha256);
  }
  plan.searches = searches.size;
  if (request.lineage === request.as)
    plan.obstacles.push(`lineage ${request.as} is the one to be rebuilt; name a new one with --as`);
  else if (
    rebuilt.latest !== null &&
    rebuilt.latest.entry.workflow.workflowId !== rebuiltBy(request.lineage, '').workflowId
  )
    plan.obstacles.push(
      `lineage ${request.as} exists and is not a rebuild of ${request.lineage}; ` +
        'name another one with --as',
    );
  if (cluster !== null) {
    const extents = await cluster.extents(topicsOf(request.lineage).corrections);
    const sum = (of: (extent: { beginning: string; end: string }) => bigint): string =>
      String([...(extents?.values() ?? [])].reduce((total, extent) => total + of(extent), 0n));
    plan.records = {
      there: sum(({ beginning, end }) => BigInt(end) - BigInt(beginning)),
      gone: sum(({ beginning }) => BigInt(beginning)),
    };
    if (due === 0 && plan.records.there === '0')
      plan.obstacles.push(`${topicsOf(request.lineage).corrections} holds no records`);
  } else if (due === 0)
    plan.obstacles.push(
      `lineage ${request.lineage} has no versions; ` +
        'if its log is lost, --from kafka takes the records of its topic',
    );
  return plan;
}
