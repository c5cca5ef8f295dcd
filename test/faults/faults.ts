/**
 * The kinds of faults and of operator orders. Each ends with the system repaired or being repaired;
 * none waits for its recovery.
 */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Kafka, logLevel, type Admin } from 'kafkajs';
import { INGEST_GROUP, topicsOf } from '../../pipelines/kafka/topics.ts';
import {
  EDIT_BATCH_WORKFLOW,
  UNDO_WORKFLOW,
  lineageWorkflowId,
} from '../../pipelines/workflows/contract.ts';
import { EMBEDDED_NAMESPACE } from '../../infra/local/temporal.ts';
import type { ProcessName } from './system/kept-process.ts';
import { LINEAGE, type ServerName, type System } from './system/system.ts';
import type { UndoOrders } from './undo-orders.ts';

export interface FaultContext {
  system: System;
  undos: UndoOrders;
  random: () => number;
  /** Shortens all waits: no pause outlasts a session. */
  brief: boolean;
  /** Called before a process or server is disturbed. */
  disturbed: (name: ProcessName | ServerName) => void;
}

/** Resolves to a description of the fault, or to null if it could not be inflicted. */
type Inflict = (context: FaultContext) => Promise<string | null>;

export interface FaultKind {
  /** Relative frequency. */
  weight: number;
  inflict: Inflict;
}

/** Kafka misses a member after 10 s, Temporal an activity after 10 or 30 s. */
const PAUSE_SHORT_MS = { from: 500, to: 4_000 };
const PAUSE_LONG_MS = { from: 11_000, to: 16_000 };
const PAUSE_LONG_SHARE = 0.25;
const PAUSE_BRIEF_MS = { from: 500, to: 1_500 };
const QUOTA_MS = { from: 2_000, to: 8_000 };
const QUOTA_BRIEF_MS = { from: 1_000, to: 2_000 };
const TEAR_WAIT_MS = 20_000;
const TEAR_WAIT_BRIEF_MS = 4_000;
const KILLS_IN_SUCCESSION_MAX = 4;
const KILL_AFTER_ORDER_SHARE = 0.35;
const KILL_AFTER_ORDER_MS = { from: 0, to: 800 };
const REWOUND_RECORDS_MAX = 40;
const REWIND_ATTEMPTS_MAX = 20;

const between = ({ from, to }: { from: number; to: number }, random: () => number): number =>
  Math.round(from + random() * (to - from));

function killProcess(name: ProcessName): Inflict {
  return async ({ system, disturbed }) => {
    disturbed(name);
    system.processes[name].signal('SIGKILL');
    return `kill -9 ${name}`;
  };
}

function killServer(name: ServerName): Inflict {
  return async ({ system, disturbed }) => {
    disturbed(name);
    void system.servers[name].kill();
    return `kill -9 ${name}`;
  };
}

function pause(name: ProcessName | ServerName): Inflict {
  return async ({ system, random, brief, disturbed }) => {
    const one =
      name === 'kafka' || name === 'temporal' ? system.servers[name] : system.processes[name];
    const pauseMs = between(
      brief ? PAUSE_BRIEF_MS : random() < PAUSE_LONG_SHARE ? PAUSE_LONG_MS : PAUSE_SHORT_MS,
      random,
    );
    disturbed(name);
    one.signal('SIGSTOP');
    await delay(pauseMs);
    one.signal('SIGCONT');
    disturbed(name);
    return `pause of ${name} for ${pauseMs} ms`;
  };
}

const killInSuccession: Inflict = async ({ system, random, brief, disturbed }) => {
  const names = Object.keys(system.processes) as ProcessName[];
  const name = names[Math.floor(random() * names.length)]!;
  const kills = 2 + Math.floor(random() * (KILLS_IN_SUCCESSION_MAX - 1));
  for (let i = 0; i < kills; i++) {
    disturbed(name);
    system.processes[name].signal('SIGKILL');
    await delay(between({ from: 100, to: brief ? 800 : 3_000 }, random));
  }
  return `kill -9 ${name}, ${kills} times in succession`;
};

const powerCut: Inflict = async ({ system, disturbed }) => {
  for (const name of ['serve', 'kafka', 'temporal'] as const) disturbed(name);
  for (const one of Object.values(system.processes)) one.signal('SIGKILL');
  for (const server of Object.values(system.servers)) void server.kill();
  return 'power cut: kill -9 of everything';
};

const fillQuota: Inflict = async ({ system, random, brief }) => {
  const fullMs = between(brief ? QUOTA_BRIEF_MS : QUOTA_MS, random);
  const order = path.join(system.orders, 'disk-full');
  writeFileSync(order, '');
  await delay(fullMs);
  rmSync(order, { force: true });
  return `store's quota full for ${fullMs} ms`;
};

function tearWrite(name: 'edit-worker' | 'workflow-worker'): Inflict {
  return async ({ system, random, brief }) => {
    const order = path.join(system.orders, `tear-${name}`);
    writeFileSync(order, String(1 + Math.floor(random() * 3)));
    const before = system.processes[name].starts;
    for (
      const end = Date.now() + (brief ? TEAR_WAIT_BRIEF_MS : TEAR_WAIT_MS);
      existsSync(order) && Date.now() < end;
    )
      await delay(50);
    const torn = !existsSync(order);
    rmSync(order, { force: true });
    return torn || system.processes[name].starts > before
      ? `write of ${name} torn in half, process dead`
      : null;
  };
}

/** Sets the group's offsets back, so that records are delivered again. */
const deliverAgain: Inflict = async ({ system, random }) => {
  await system.processes.ingest.stop();
  const admin = new Kafka({
    clientId: 'rewind',
    brokers: system.brokers,
    logLevel: logLevel.NOTHING,
  }).admin();
  try {
    await admin.connect();
    for (let attempt = 1; ; attempt++) {
      try {
        return await rewind(admin, random);
      } catch (error) {
        // A killed member stays in the group until its session ends.
        if (attempt === REWIND_ATTEMPTS_MAX) throw error;
        await delay(1_000);
      }
    }
  } finally {
    await admin.disconnect();
    system.processes.ingest.start();
  }
};

async function rewind(admin: Admin, random: () => number): Promise<string> {
  const topic = topicsOf(LINEAGE).corrections;
  const [committed] = await admin.fetchOffsets({ groupId: INGEST_GROUP, topics: [topic] });
  const before = committed!.partitions;
  const partitions = before.map(({ partition, offset }) => {
    const back = Math.floor(random() * REWOUND_RECORDS_MAX);
    return { partition, offset: String(Math.max(0, Number(offset) - back)) };
  });
  await admin.setOffsets({ groupId: INGEST_GROUP, topic, partitions });
  const list = (offsets: { offset: string }[]) => offsets.map(({ offset }) => offset).join(', ');
  return `delivered again: offsets set back from ${list(before)} to ${list(partitions)}`;
}

const resetLineage: Inflict = (context) => resetWorkflow(context, lineageWorkflowId(LINEAGE));

const resetBatch: Inflict = (context) => resetOneOf(context, EDIT_BATCH_WORKFLOW);
const resetUndo: Inflict = (context) => resetOneOf(context, UNDO_WORKFLOW);

async function resetOneOf(context: FaultContext, type: string): Promise<string | null> {
  const { client } = context.system.temporal;
  const ids: string[] = [];
  for await (const { workflowId } of client.workflow.list({ query: `WorkflowType = '${type}'` })) {
    ids.push(workflowId);
    if (ids.length === 6) break;
  }
  const workflowId = ids[Math.floor(context.random() * ids.length)];
  return workflowId === undefined ? null : await resetWorkflow(context, workflowId);
}

/** Resets to a recent decision of the current run; later signals and updates are reapplied. */
async function resetWorkflow(
  { system, random }: FaultContext,
  workflowId: string,
): Promise<string | null> {
  const { client } = system.temporal;
  const { history, runId } = await client.withDeadline(Date.now() + 10_000, async () => {
    const handle = client.workflow.getHandle(workflowId);
    const { runId } = await handle.describe();
    return { runId, history: await client.workflow.getHandle(workflowId, runId).fetchHistory() };
  });
  const decisions = (history.events ?? []).filter(
    (event) =>
      event.workflowTaskCompletedEventAttributes !== null &&
      event.workflowTaskCompletedEventAttributes !== undefined,
  );
  const back = Math.floor(random() * random() * decisions.length);
  const event = decisions.at(-1 - back);
  if (event === undefined) return null;
  await client.workflowService.resetWorkflowExecution({
    namespace: EMBEDDED_NAMESPACE,
    workflowExecution: { workflowId, runId },
    reason: 'fault run',
    requestId: `reset-${runId}-${random()}`,
    workflowTaskFinishEventId: event.eventId!,
  });
  return `reset of ${workflowId} to event ${String(event.eventId)} of ${history.events!.length}`;
}

/** An operator's order, during which a worker is sometimes killed. */
function ordered(
  order: (undos: UndoOrders, random: () => number) => Promise<string | null>,
): Inflict {
  return async ({ system, undos, random, disturbed }) => {
    const done = await order(undos, random);
    if (done === null || random() >= KILL_AFTER_ORDER_SHARE) return done;
    const name = random() < 0.5 ? 'workflow-worker' : 'edit-worker';
    await delay(between(KILL_AFTER_ORDER_MS, random));
    disturbed(name);
    system.processes[name].signal('SIGKILL');
    return `${done}; then kill -9 ${name}`;
  };
}

export const FAULTS: Readonly<Record<string, FaultKind>> = {
  'kill ingest': { weight: 6, inflict: killProcess('ingest') },
  'kill workflow-worker': { weight: 8, inflict: killProcess('workflow-worker') },
  'kill edit-worker': { weight: 8, inflict: killProcess('edit-worker') },
  'kill serve': { weight: 3, inflict: killProcess('serve') },
  'kill kafka': { weight: 4, inflict: killServer('kafka') },
  'kill temporal': { weight: 5, inflict: killServer('temporal') },
  'kill in succession': { weight: 3, inflict: killInSuccession },
  'power cut': { weight: 3, inflict: powerCut },
  'pause ingest': { weight: 4, inflict: pause('ingest') },
  'pause workflow-worker': { weight: 5, inflict: pause('workflow-worker') },
  'pause edit-worker': { weight: 5, inflict: pause('edit-worker') },
  'pause serve': { weight: 1, inflict: pause('serve') },
  'pause kafka': { weight: 3, inflict: pause('kafka') },
  'pause temporal': { weight: 3, inflict: pause('temporal') },
  'quota full': { weight: 6, inflict: fillQuota },
  'torn write of edit-worker': { weight: 5, inflict: tearWrite('edit-worker') },
  'torn write of workflow-worker': { weight: 5, inflict: tearWrite('workflow-worker') },
  'delivered again': { weight: 5, inflict: deliverAgain },
  'reset of the lineage': { weight: 6, inflict: resetLineage },
  'reset of a batch': { weight: 5, inflict: resetBatch },
  'reset of an undo': { weight: 3, inflict: resetUndo },
  'revert of a version': {
    weight: 4,
    inflict: ordered((undos, random) => undos.revertVersion(random)),
  },
  'revert of a correction': {
    weight: 6,
    inflict: ordered((undos, random) => undos.revertCorrection(random)),
  },
  rollback: { weight: 3, inflict: ordered((undos, random) => undos.rollBack(random)) },
};
