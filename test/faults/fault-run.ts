/**
 * One run: a known stream goes in while faults are inflicted, then everything is healed, drained
 * and checked.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { seededRandom } from '../../model/tensor/random.ts';
import { INGEST_GROUP, topicsOf } from '../../pipelines/kafka/topics.ts';
import { EDIT_BATCH_WORKFLOW, UNDO_WORKFLOW } from '../../pipelines/workflows/contract.ts';
import { check, type Findings } from './checker.ts';
import { FAULTS, type FaultContext } from './faults.ts';
import { knownStream, weighted, type StreamKind, type StreamRecord } from './known-stream.ts';
import { lastAnswers } from './last-answers.ts';
import { readWorld } from './read-world.ts';
import { ServeWatch } from './serve-watch.ts';
import { StreamSender } from './stream-sender.ts';
import { LINEAGE, SETTINGS, System } from './system.ts';
import { UndoOrders, type OrderedUndo } from './undo-orders.ts';

export interface RunOptions {
  seed: number;
  records: number;
  /**
   * Faults are drawn for so long; or each kind comes once, in an order of the seed, whatever time
   * it takes.
   */
  faults: { minutes: number; kinds?: readonly string[] } | 'each kind once';
  tell: (line: string) => void;
  /** Leaves the folder with data and logs. */
  keep?: boolean;
}

export interface RunResult {
  seed: number;
  folder: string;
  /** As asked for; null where each kind came once. */
  minutes: number | null;
  startedAt: Date;
  seconds: { faults: number; drain: number; whole: number };
  records: Record<StreamKind, number>;
  sent: number;
  faults: { atSeconds: number; kind: string; done: string }[];
  /** Faults that found nothing to break. */
  missed: number;
  starts: Record<string, number>;
  versions: number;
  undos: OrderedUndo[];
  serve: { asked: number; versions: number };
  findings: Findings;
}

/** Nothing may stand still for longer once everything is healed. */
const STILL_MAX_MS = 120_000;
const LOOK_EVERY_MS = 500;
const READY_WAIT_MS = 30_000;
/** Where faults are drawn, the system mostly gets to its feet before the next one. */
const RECOVERED_SHARE = 0.6;
/**
 * The stream ends before the faults do, so that some of them hit a system that has nothing new to
 * read.
 */
const STREAM_SHARE = 0.85;
const BRIEF_STREAM_MS = 30_000;
const GAP_MS = 200;
const GAP_MORE_MS = 5_000;

export async function faultRun({
  seed,
  records,
  faults,
  tell,
  keep = false,
}: RunOptions): Promise<RunResult> {
  const startedAt = new Date();
  const stream = knownStream(LINEAGE, records, seededRandom(seed));
  const system = await System.start();
  tell(`the system runs in ${system.folder}`);
  const watch = new ServeWatch(system.processes.serve);
  const orders = new UndoOrders(system, (version) => watch.mayGoBackTo(version));
  const sender = new StreamSender(
    system.brokers,
    topicsOf(LINEAGE).corrections,
    seededRandom(seed + 1),
  );
  try {
    watch.start();
    const random = seededRandom(seed + 2);
    const brief = faults === 'each kind once';
    const context: FaultContext = {
      system,
      undos: orders,
      random,
      brief,
      disturbed: (name) => name === 'serve' && watch.disturbed(),
    };
    const began = Date.now();
    const draw =
      faults === 'each kind once'
        ? eachOnce(Object.keys(FAULTS), random)
        : drawn(faults.kinds ?? Object.keys(FAULTS), random, began + faults.minutes * 60_000);
    const streamMs =
      faults === 'each kind once' ? BRIEF_STREAM_MS : faults.minutes * 60_000 * STREAM_SHARE;
    const sending = sender.send(stream, streamMs);
    const inflicted: RunResult['faults'] = [];
    let missed = 0;
    for (const kind of draw) {
      if (!brief && random() < RECOVERED_SHARE)
        await Promise.race([system.ready(), delay(READY_WAIT_MS)]);
      await delay(GAP_MS + (brief ? 0 : random() * GAP_MORE_MS));
      const atSeconds = Math.round((Date.now() - began) / 1_000);
      let done: string | null;
      try {
        done = await FAULTS[kind]!.inflict(context);
      } catch (error) {
        // A reset finds no Temporal that was just killed.
        tell(`${atSeconds} s  ${kind} was not possible: ${messageOf(error)}`);
        done = null;
      }
      if (done === null) missed++;
      else {
        inflicted.push({ atSeconds, kind, done });
        tell(`${atSeconds} s  ${done}`);
      }
    }
    const faultsMs = Date.now() - began;
    const sent = await sending;
    tell(`${sent} records sent; healing and draining`);
    const stuck = await drained(system, tell);
    const drainMs = Date.now() - began - faultsMs;
    const undos = await orders.ended();
    await orders.letGo();
    // What was ordered again may have left something to do.
    if (stuck.length === 0) stuck.push(...(await drained(system, tell)));
    await watch.stop();
    const answers = await lastAnswers(system.processes.serve, stream, await orders.head());
    await sender.close();
    const starts = Object.fromEntries(
      Object.values(system.processes).map((one) => [one.name, one.starts]),
    );
    await Promise.all(Object.values(system.processes).map((one) => one.stop()));
    const world = await readWorld(system.brokers, LINEAGE, INGEST_GROUP, system.versionsFolder, {
      undos,
      answers,
    });
    const findings = check(world, SETTINGS.verdict);
    findings.violations.push(...watch.violations, ...stuck);
    const versions = [...world.store.keys()].filter((name) => name.includes('/log/')).length;
    for (const version of watch.versions)
      if (version > versions)
        findings.violations.push(`Serve: version ${version} answered and is not in the log.`);
    if (world.corrections.length < sent)
      findings.violations.push(
        `Kafka: ${sent} records were acknowledged, and ${world.corrections.length} are there.`,
      );
    return {
      seed,
      folder: system.folder,
      minutes: faults === 'each kind once' ? null : faults.minutes,
      startedAt,
      seconds: {
        faults: faultsMs / 1_000,
        drain: drainMs / 1_000,
        whole: (Date.now() - startedAt.getTime()) / 1_000,
      },
      records: countsOf(stream),
      sent,
      faults: inflicted,
      missed,
      starts,
      versions,
      undos,
      serve: { asked: watch.asked, versions: watch.versions.size },
      findings,
    };
  } finally {
    await watch.stop();
    await sender.close();
    await system.stop({ keep });
  }
}

function* eachOnce(kinds: readonly string[], random: () => number): Iterable<string> {
  const lots = kinds.map((kind) => ({ kind, lot: random() }));
  for (const { kind } of lots.sort((a, b) => a.lot - b.lot)) yield kind;
}

function* drawn(kinds: readonly string[], random: () => number, until: number): Iterable<string> {
  const weights = Object.fromEntries(kinds.map((kind) => [kind, FAULTS[kind]!.weight]));
  const due = [...eachOnce(kinds, random)];
  // Every kind comes at least once before chance alone decides.
  while (Date.now() < until) yield due.pop() ?? weighted(weights, random);
}

/** Waits until nothing is left to do; what stands still for too long, in words. */
async function drained(system: System, tell: (line: string) => void): Promise<string[]> {
  await system.ready();
  let last = '';
  let movedAt = Date.now();
  for (;;) {
    const state = await stateOf(system).catch((error: unknown) => ({
      left: null,
      words: `not to be asked: ${messageOf(error)}`,
    }));
    if (state.left === 0) return [];
    if (state.words !== last) [last, movedAt] = [state.words, Date.now()];
    if (Date.now() - movedAt > STILL_MAX_MS) {
      tell(`it stands still: ${state.words}`);
      return [`Stuck: with everything healed for ${STILL_MAX_MS / 1_000} s, ${state.words}.`];
    }
    await delay(LOOK_EVERY_MS);
  }
}

async function stateOf(system: System): Promise<{ left: number; words: string }> {
  const lag = (await system.cluster.lagOf(INGEST_GROUP, [topicsOf(LINEAGE).corrections])).reduce(
    (sum, partition) => sum + partition.lag,
    0,
  );
  const status = await system.temporal.status(LINEAGE);
  const { count } = await system.temporal.client.workflow.count(
    `WorkflowType IN ('${EDIT_BATCH_WORKFLOW}', '${UNDO_WORKFLOW}') AND ExecutionStatus = 'Running'`,
  );
  const waiting = status?.waiting ?? 0;
  const undos =
    status === null ? 0 : status.undos.waiting.length + (status.undos.running === null ? 0 : 1);
  const running = status?.running ?? null;
  const frozen = status?.frozen ?? null;
  const extents = (await system.cluster.extents(topicsOf(LINEAGE).outcomes))!;
  const outcomes = [...extents.values()].map(({ end }) => end).join(', ');
  return {
    left: lag + waiting + undos + count + (running === null ? 0 : 1) + (frozen === null ? 0 : 1),
    words: `${lag} records are unread, ${waiting} wait, ${undos} undos are not done, batch ${running?.batchId ?? 'none'} runs, ${count} workflows of batches and undos are open, outcomes end at ${outcomes}, ${frozen === null ? 'not frozen' : `frozen: ${frozen.reason}`}`,
  };
}

function countsOf(stream: readonly StreamRecord[]): Record<StreamKind, number> {
  const counts = {} as Record<StreamKind, number>;
  for (const { kind } of stream) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The end of a process's log, for whoever looks into a failure. */
export function logTail(folder: string, name: string, characters = 4_000): string {
  const file = path.join(folder, 'logs', `${name}.log`);
  return existsSync(file) ? readFileSync(file, 'utf8').slice(-characters) : '';
}
