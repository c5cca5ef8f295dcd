/**
 * Edits records in consecutive batches by the very activities of the edit worker, on a version log
 * in a temporary folder, and measures at the end of the stream. Nothing is judged on the way:
 * whatever a verdict would say is committed, so that the figures are the editor's and not the
 * gatekeeper's; a correction that the editor refuses counts as one that failed.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createEditActivities, createLedgerActivities } from '../activities/index.ts';
import type { Probe } from '../model/engine-types.ts';
import type { Engine } from '../model/engine/engine.ts';
import type { VerdictSettings } from '../schemas/settings.ts';
import { ensureHook, hookIdOf } from '../versions/log/hook-pairs.ts';
import { versionsInFolder } from '../versions/versions.ts';
import type { BenchRecord } from './records.ts';
import { noSeconds, timed, timedEngine, type StageSeconds } from './stages.ts';

export interface BenchResult {
  corrections: number;
  batches: number;
  batchSize: number;
  /** Corrections that a later record of the same fact replaced; the measures leave them out. */
  superseded: number;
  refused: number;
  efficacy: number;
  efficacyGreedy: number;
  /** p(new) > p(old) on the own prompts. */
  preference: number;
  paraphrase: number | null;
  paraphraseArgmax: number | null;
  neighboursUnchanged: number | null;
  perplexityRatio: number;
  /** Tokens of ordinary text on which a gate opens. */
  ordinaryOpenShare: number;
  /** The first corrections of the stream, at its end. */
  earliest: { asked: number; efficacy: number; efficacyGreedy: number };
  before: { efficacy: number; preference: number; paraphrase: number | null };
  secondsPerCorrection: number;
  stages: StageSeconds;
  secondsByBatch: number[];
  peakRssBytes: number;
}

/** How many of the first corrections are looked at by themselves. */
const EARLIEST = 200;

const PERMISSIVE: VerdictSettings = {
  requireEffective: false,
  generalisationMin: 0,
  localityMin: 0,
  retentionMin: 0,
  canaryRatioMax: 1e9,
  editNormMax: 1e9,
  retentionSample: 8,
};

export async function editStream(
  engine: Engine,
  records: readonly BenchRecord[],
  batchSize: number,
  tell: (done: number) => void,
): Promise<BenchResult> {
  const folder = await mkdtemp(path.join(tmpdir(), 'errata-bench-'));
  try {
    const versions = versionsInFolder(folder);
    const stages = noSeconds();
    const activities = {
      ...createEditActivities({ engine: timedEngine(engine, stages), versions }),
      ...createLedgerActivities({ versions }),
    };
    const secondsByBatch: number[] = [];
    for (let begin = 0; begin < records.length; begin += batchSize) {
      const revisions = records.slice(begin, begin + batchSize).map(({ revision }) => revision);
      const began = performance.now();
      const batchId = `bench-${begin}`;
      const plan = await timed(stages, 'commit', () =>
        activities.planBatch({ lineage: 'bench', batchId, revisions }),
      );
      const step = {
        lineage: 'bench',
        batchId,
        head: plan.head,
        edits: plan.edits,
        removals: plan.removals,
      };
      const shard = await activities.computeTargets(step);
      const staged = await activities.stageUpdate({ ...step, shards: [shard] });
      if (staged.rows.length > 0) {
        const probes = await activities.runProbes({ ...step, staged, settings: PERMISSIVE });
        await timed(stages, 'commit', () =>
          activities.commitVersion({
            ...step,
            withdrawals: [],
            staged,
            probes,
            workflow: { workflowId: 'bench', runId: 'bench' },
          }),
        );
      }
      secondsByBatch.push((performance.now() - began) / 1000);
      tell(Math.min(records.length, begin + batchSize));
    }
    const seconds = secondsByBatch.reduce((sum, one) => sum + one, 0);
    const peakRssBytes = process.resourceUsage().maxRSS * 1024;

    const log = versions.log('bench');
    const { active } = await log.read();
    const rows = [...active.values()];
    await ensureHook(engine, log, rows);
    const latest = new Map(records.map((record) => [record.revision.factKey, record]));
    const measured = await measure(engine, hookIdOf(rows), [...latest.values()]);
    return {
      corrections: records.length,
      batches: secondsByBatch.length,
      batchSize,
      superseded: records.length - latest.size,
      refused: latest.size - rows.length,
      ...measured,
      secondsPerCorrection: seconds / records.length,
      stages,
      secondsByBatch,
      peakRssBytes,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export type StreamMeasures = Awaited<ReturnType<typeof measure>>;

/** What the hook makes of these records, against the base model; the canary is the whole text's. */
export async function measure(
  engine: Engine,
  hookId: string | null,
  records: readonly BenchRecord[],
) {
  const scored = (prompt: string, record: BenchRecord): Probe => ({
    prompt,
    target: record.target,
    alternative: record.old,
    greedyTokensMax: 0,
  });
  const own = records.map((record) => scored(record.prompt, record));
  const paraphrases = records.flatMap((record) =>
    record.paraphrases.map((prompt) => scored(prompt, record)),
  );
  const neighbours = [...new Set(records.flatMap((record) => record.neighbours))].map(
    (prompt): Probe => ({ prompt, greedyTokensMax: 0 }),
  );
  const prefers = (answer: {
    targetLogProbability: number | null;
    alternativeLogProbability: number | null;
  }) => answer.targetLogProbability! > answer.alternativeLogProbability!;

  const [ownBefore, paraphrasesBefore, neighboursBefore] = [
    await engine.probe(null, own),
    await engine.probe(null, paraphrases),
    await engine.probe(null, neighbours),
  ];
  const [ownAfter, paraphrasesAfter, neighboursAfter] = [
    await engine.probe(hookId, own),
    await engine.probe(hookId, paraphrases),
    await engine.probe(hookId, neighbours),
  ];
  const canary = await engine.canary(hookId);
  return {
    efficacy: share(ownAfter, (answer) => answer.targetIsArgmax === true) ?? 0,
    efficacyGreedy: share(ownAfter, (answer) => answer.targetIsGreedy === true) ?? 0,
    preference: share(ownAfter, prefers) ?? 0,
    paraphrase: share(paraphrasesAfter, prefers),
    paraphraseArgmax: share(paraphrasesAfter, (answer) => answer.targetIsArgmax === true),
    neighboursUnchanged: share(
      neighboursAfter,
      (answer, i) => answer.nextToken === neighboursBefore[i]!.nextToken,
    ),
    perplexityRatio: canary.ratio,
    ordinaryOpenShare: canary.openShare,
    earliest: {
      asked: Math.min(EARLIEST, records.length),
      efficacy: share(ownAfter.slice(0, EARLIEST), (answer) => answer.targetIsArgmax === true) ?? 0,
      efficacyGreedy:
        share(ownAfter.slice(0, EARLIEST), (answer) => answer.targetIsGreedy === true) ?? 0,
    },
    before: {
      efficacy: share(ownBefore, (answer) => answer.targetIsArgmax === true) ?? 0,
      preference: share(ownBefore, prefers) ?? 0,
      paraphrase: share(paraphrasesBefore, prefers),
    },
  };
}

function share<Item>(
  items: readonly Item[],
  holds: (item: Item, index: number) => boolean,
): number | null {
  return items.length === 0 ? null : items.filter(holds).length / items.length;
}
