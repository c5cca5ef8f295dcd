/**
 * One run: a known stream is sent while faults are inflicted; then everything is repaired, drained
 * and checked.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { seededRandom } from '../../model/tensor/random.ts';
import { INGEST_GROUP, topicsOf } from '../../pipelines/kafka/topics.ts';
import { EDIT_BATCH_WORKFLOW, UNDO_WORKFLOW } from '../../pipelines/workflows/contract.ts';
import { check, type Findings } from './checker/checker.ts';
import { readWorld, type World } from './checker/world.ts';
import { FAULTS, type FaultContext } from './faults.ts';
import { knownStream, weighted, type StreamKind, type StreamRecord } from './known-stream.ts';
import { StreamSender } from './stream-sender.ts';
import { finalAnswers } from './system/answers.ts';
import { ServeWatch } from './system/serve-watch.ts';
import { LINEAGE, SETTINGS, System } from './system/system.ts';
import { UndoOrders, type OrderedUndo } from './undo-orders.ts';

export interface RunOptions {
  seed: number;
  records: number;
  /** Either faults are drawn for this time, or each kind comes once in seeded order. */
  faults: { minutes: number; kinds?: readonly string[] } | 'each kind once';
  print: (line: string) => void;
  /** Keeps the folder with data and logs. */
  keep?: boolean;
}

export interface RunResult {
  seed: number;
  folder: string;
  /** Null if each kind came once. */
  minutes: number | null;
  startedAt: Date;
  seconds: { faults: number; drain: number; whole: number };
  records: Record<StreamKind, number>;
  sent: number;
  faults: { atSeconds: number; kind: string; done: string }[];
  /** Faults that had nothing to break. */
  missed: number;
  starts: Record<string, number>;
  versions: number;
  undos: OrderedUndo[];
  serve: { asked: number; versions: number };
  findings: Findings;
}

/** The longest time without progress once everything is repaired. */
const STILL_MAX_MS = 120_000;
const LOOK_EVERY_MS = 500;
const READY_WAIT_MS = 30_000;
/** Share of drawn faults that wait for the system to recover from the last one. */
const RECOVERED_SHARE = 0.6;
/** The stream ends before the faults, so that some of them hit an idle system. */
const STREAM_SHARE = 0.85;
const BRIEF_STREAM_MS = 30_000;
const GAP_MS = 200;
const GAP_MORE_MS = 5_000;

export async function faultRun(options: RunOptions): Promise<RunResult> {
  const run = new FaultRun(options, await System.start());
  try {
    return await run.run();
  } finally {
    await run.stop();
  }
}

class FaultRun {
  readonly #options: RunOptions;
  readonly #system: System;
  readonly #startedAt = new Date();
  readonly #stream: StreamRecord[];
  readonly #watch: ServeWatch;
  readonly #orders: UndoOrders;
  readonly #sender: StreamSender;
  readonly #inflicted: RunResult['faults'] = [];
  #missed = 0;

  constructor(options: RunOptions, system: System) {
    const { seed, records } = options;
    this.#options = options;
    this.#system = system;
    this.#stream = knownStream(LINEAGE, records, seededRandom(seed));
    this.#watch = new ServeWatch(system.processes.serve);
    this.#orders = new UndoOrders(system, (version) => this.#watch.mayGoBackTo(version));
    const topic = topicsOf(LINEAGE).corrections;
    this.#sender = new StreamSender(system.brokers, topic, seededRandom(seed + 1));
  }

  async run(): Promise<RunResult> {
    const { print, faults, seed } = this.#options;
    print(`the system runs in ${this.#system.folder}`);
    this.#watch.start();
    const began = Date.now();
    const minutes = faults === 'each kind once' ? null : faults.minutes;
    const streamMs = minutes === null ? BRIEF_STREAM_MS : minutes * 60_000 * STREAM_SHARE;
    const sending = this.#sender.send(this.#stream, streamMs);
    await this.#inflict(began);
    const faultsMs = Date.now() - began;
    const sent = await sending;
    print(`${sent} records sent; fixing and draining`);
    const stuck = await drained(this.#system, print);
    const drainMs = Date.now() - began - faultsMs;
    const world = await this.#finalWorld(stuck);
    const findings = check(world, SETTINGS.verdict);
    const versions = [...world.store.keys()].filter((name) => name.includes('/log/')).length;
    findings.violations.push(...this.#watch.violations, ...stuck);
    for (const version of this.#watch.versions)
      if (version > versions)
        findings.violations.push(`Serve: version ${version} answered and is not in the log.`);
    if (world.corrections.length < sent)
      findings.violations.push(
        `Kafka: ${sent} records were acknowledged, and ${world.corrections.length} are there.`,
      );
    const processes = Object.values(this.#system.processes);
    return {
      seed,
      folder: this.#system.folder,
      minutes,
      startedAt: this.#startedAt,
      seconds: {
        faults: faultsMs / 1_000,
        drain: drainMs / 1_000,
        whole: (Date.now() - this.#startedAt.getTime()) / 1_000,
      },
      records: countsOf(this.#stream),
      sent,
      faults: this.#inflicted,
      missed: this.#missed,
      starts: Object.fromEntries(processes.map(({ name, starts }) => [name, starts])),
      versions,
      undos: world.undos,
      serve: { asked: this.#watch.asked, versions: this.#watch.versions.size },
      findings,
    };
  }

  async stop(): Promise<void> {
    await this.#watch.stop();
    await this.#sender.close();
    await this.#system.stop({ keep: this.#options.keep === true });
  }

  async #inflict(began: number): Promise<void> {
    const { faults, seed, print } = this.#options;
    const random = seededRandom(seed + 2);
    const brief = faults === 'each kind once';
    const context: FaultContext = {
      system: this.#system,
      undos: this.#orders,
      random,
      brief,
      disturbed: (name) => name === 'serve' && this.#watch.disturbed(),
    };
    const kinds = brief
      ? eachOnce(Object.keys(FAULTS), random)
      : drawn(faults.kinds ?? Object.keys(FAULTS), random, began + faults.minutes * 60_000);
    for (const kind of kinds) {
      if (!brief && random() < RECOVERED_SHARE)
        await Promise.race([this.#system.ready(), delay(READY_WAIT_MS)]);
      await delay(GAP_MS + (brief ? 0 : random() * GAP_MORE_MS));
      const atSeconds = Math.round((Date.now() - began) / 1_000);
      const done = await FAULTS[kind]!.inflict(context).catch((error: unknown) => {
        // A reset, for example, fails when Temporal was just killed.
        print(`${atSeconds} s  ${kind} was not possible: ${String(error)}`);
        return null;
      });
      if (done === null) {
        this.#missed++;
        continue;
      }
      this.#inflicted.push({ atSeconds, kind, done });
      print(`${atSeconds} s  ${done}`);
    }
  }

  /** Ends all orders, fetches the last answers, stops the processes, and reads everything. */
  async #finalWorld(stuck: string[]): Promise<World> {
    const { processes } = this.#system;
    const undos = await this.#orders.ended();
    await this.#orders.letGo();
    // A repeated order may have left work.
    if (stuck.length === 0) stuck.push(...(await drained(this.#system, this.#options.print)));
    await this.#watch.stop();
    const head = await this.#orders.head();
    const answers = await finalAnswers(processes.serve, this.#stream, head);
    await this.#sender.close();
    await Promise.all(Object.values(processes).map((one) => one.stop()));
    return await readWorld(this.#system, LINEAGE, INGEST_GROUP, { undos, answers });
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

/** Resolves when no work is left; resolves to a violation if there is no progress for too long. */
async function drained(system: System, print: (line: string) => void): Promise<string[]> {
  await system.ready();
  let last = '';
  let movedAt = Date.now();
  for (;;) {
    const { left, text } = await stateOf(system).catch((error: unknown) => ({
      left: null,
      text: `the state is unknown: ${String(error)}`,
    }));
    if (left === 0) return [];
    if (text !== last) [last, movedAt] = [text, Date.now()];
    if (Date.now() - movedAt > STILL_MAX_MS) {
      print(`no progress: ${text}`);
      return [`Stuck: with everything fixed for ${STILL_MAX_MS / 1_000} s, ${text}.`];
    }
    await delay(LOOK_EVERY_MS);
  }
}

async function stateOf({ cluster, temporal }: System): Promise<{ left: number; text: string }> {
  const topics = topicsOf(LINEAGE);
  const partitions = await cluster.lagOf(INGEST_GROUP, [topics.corrections]);
  const lag = partitions.reduce((sum, partition) => sum + partition.lag, 0);
  const status = await temporal.status(LINEAGE);
  const types = `WorkflowType IN ('${EDIT_BATCH_WORKFLOW}', '${UNDO_WORKFLOW}')`;
  const running = `${types} AND ExecutionStatus = 'Running'`;
  const { count } = await temporal.client.workflow.count(running);
  const { waiting = 0, running: batch = null, frozen = null } = status ?? {};
  const undos =
    status === null ? 0 : status.undos.waiting.length + Number(status.undos.running !== null);
  const extents = (await cluster.extents(topics.outcomes))!;
  const ends = [...extents.values()].map(({ end }) => end);
  const left = lag + waiting + undos + count + Number(batch !== null) + Number(frozen !== null);
  const text = [
    `${lag} records are unread`,
    `${waiting} wait`,
    `${undos} undos are not done`,
    `batch ${batch?.batchId ?? 'none'} runs`,
    `${count} workflows of batches and undos are open`,
    `outcomes end at ${ends.join(', ')}`,
    frozen === null ? 'not frozen' : `frozen: ${frozen.reason}`,
  ];
  return { left, text: text.join(', ') };
}

function countsOf(stream: readonly StreamRecord[]): Record<StreamKind, number> {
  const counts = {} as Record<StreamKind, number>;
  for (const { kind } of stream) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}
