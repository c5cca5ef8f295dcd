/**
 * Runs the demonstration against a running system: sends its stream, waits for every fate, checks
 * what came of it.
 */
import type { FactCorrection } from '../../schemas/correction.ts';
import type { CorrectionProbe, OutcomeStatus } from '../../schemas/editing.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import type { LineageEvent } from '../../pipelines/kafka/tail.ts';
import { submitCorrections, submitRetractions } from '../../pipelines/kafka/submit.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { Clients } from '../session/clients.ts';
import { CommandFailure } from '../session/command-failure.ts';
import { answerOverHttp, lineagesOverHttp, type Server } from '../session/answering.ts';
import {
  watchOutcomes,
  type Awaited,
  type Fate,
  type OutcomeWatch,
} from '../session/outcome-watch.ts';
import { checksOf, type Check } from './checks.ts';
import { demonstrationStream, type DemonstrationStream } from './stream.ts';

export interface DemonstrationOptions {
  clients: Clients;
  log: VersionLog;
  lineage: string;
  server: Server;
  /** Which run in this data folder, from 1. */
  run: number;
  /** Called as things happen. */
  told: (event: DemonstrationEvent) => void;
}

export type DemonstrationEvent =
  | {
      kind: 'sent';
      what: 'corrections' | 'superseding' | 'retraction';
      records: number;
      topic: string;
    }
  | { kind: 'version'; entry: VersionEntry; secondsAfterSending: number }
  | { kind: 'outcome'; id: string; status: OutcomeStatus; reason: string | null }
  | { kind: 'dead-letter'; message: string }
  | { kind: 'decided'; decided: number; of: number }
  | { kind: 'asking'; asked: number; of: number };

/**
 * What became of one correction, in the version that made it, and what the newest version says at
 * the end.
 */
export interface CorrectionResult {
  correction: FactCorrection;
  fate: Fate;
  version: number | null;
  probe: CorrectionProbe | null;
  /** What the newest version answers at the end of the stream. */
  atTheEnd: string;
  holds: boolean;
  /** Whether a later revision of the same fact took its place. */
  replaced: 'superseded' | 'retracted' | null;
}

export interface DemonstrationReport {
  lineage: string;
  results: CorrectionResult[];
  tooLong: Fate;
  malformed: { what: string; fate: Fate }[];
  head: number;
  seconds: number;
  checks: Check[];
  passed: boolean;
}

export async function runDemonstration(
  options: DemonstrationOptions,
): Promise<DemonstrationReport> {
  const { clients, lineage, log, run, server, told } = options;
  const startedMs = performance.now();
  const stream = demonstrationStream(lineage, run, Date.now());
  const watch = await watchOutcomes(
    clients,
    [lineage],
    (announcement) => void tell(announcement, idsOf(stream), startedMs, log, told),
  );
  try {
    const sent = await sendCorrections(clients, lineage, stream, told);
    const fates = await fatesOf(
      watch,
      [...sent.corrections, sent.tooLong, ...sent.malformed],
      told,
    );
    const superseding = await sendSuperseding(clients, stream, lineage, watch, told);
    const retraction = await sendRetraction(clients, stream, lineage, watch, told);
    const { head } = await log.read();
    await untilServed(server, lineage, head.version);
    const results = await resultsOf(options, stream, [
      ...fates.slice(0, stream.corrections.length),
      superseding,
    ]);
    const { prompt } = stream.retraction.correction;
    const baseAnswer = await answerOverHttp(server, {
      lineage,
      prompt,
      version: 0,
      tokensMax: ANSWER_TOKENS,
    });
    const report: Omit<DemonstrationReport, 'checks' | 'passed'> = {
      lineage,
      results,
      tooLong: fates[stream.corrections.length]!,
      malformed: stream.malformed.map(({ what }, i) => ({
        what,
        fate: fates[stream.corrections.length + 1 + i]!,
      })),
      head: head.version,
      seconds: (performance.now() - startedMs) / 1_000,
    };
    const checks = checksOf(report, { fate: retraction, baseAnswer });
    return { ...report, checks, passed: checks.every((check) => check.passed) };
  } finally {
    await watch.stop();
  }
}

/**
 * For one record: it may be retried by the system for as long as an outage lasts, but nobody
 * watches that long.
 */
const FATES_WAIT_MS = 1_800_000;
const SERVED_WAIT_MS = 120_000;
const LOOK_EVERY_MS = 250;
/** The targets have at most four. */
const ANSWER_TOKENS = 5;

/** Outcomes of an earlier run's corrections, which this one supersedes, are of no interest. */
function idsOf(stream: DemonstrationStream): Set<string> {
  return new Set(
    [...stream.corrections, stream.tooLong, stream.superseding.correction].map(({ id }) => id),
  );
}

async function tell(
  announcement: LineageEvent,
  ids: ReadonlySet<string>,
  startedMs: number,
  log: VersionLog,
  told: DemonstrationOptions['told'],
): Promise<void> {
  if (announcement.kind === 'version') {
    const secondsAfterSending = (performance.now() - startedMs) / 1_000;
    told({
      kind: 'version',
      entry: (await log.entry(announcement.version.version)).entry,
      secondsAfterSending,
    });
  } else if (announcement.kind === 'outcome' && ids.has(announcement.outcome.revisionId)) {
    told({
      kind: 'outcome',
      id: announcement.outcome.revisionId,
      status: announcement.outcome.status,
      reason: announcement.outcome.reason,
    });
  } else if (announcement.kind === 'dead-letter') {
    told({ kind: 'dead-letter', message: announcement.message });
  }
}

interface Sent {
  corrections: Awaited[];
  tooLong: Awaited;
  malformed: Awaited[];
}

/** The malformed ones stand in between, as they would. */
async function sendCorrections(
  clients: Clients,
  lineage: string,
  stream: DemonstrationStream,
  told: DemonstrationOptions['told'],
): Promise<Sent> {
  const sender = await clients.sender();
  const topic = topicsOf(lineage).corrections;
  const half = Math.ceil(stream.corrections.length / 2);
  const first = await submitCorrections(sender, clients.format, stream.corrections.slice(0, half));
  const malformed: Awaited[] = [];
  for (const { record } of stream.malformed) {
    const [position] =
      record.kind === 'bytes'
        ? await sender.send(topic, [{ key: record.key, value: record.value }])
        : (
            await submitCorrections(sender, clients.format, [record.correction], {
              unsound: 'send',
            })
          ).map((one) => one.position);
    malformed.push({ id: null, position: position! });
  }
  const rest = await submitCorrections(sender, clients.format, [
    ...stream.corrections.slice(half),
    stream.tooLong,
  ]);
  told({
    kind: 'sent',
    what: 'corrections',
    records: first.length + malformed.length + rest.length,
    topic,
  });
  return { corrections: [...first, ...rest.slice(0, -1)], tooLong: rest.at(-1)!, malformed };
}

async function sendSuperseding(
  clients: Clients,
  stream: DemonstrationStream,
  lineage: string,
  watch: OutcomeWatch,
  told: DemonstrationOptions['told'],
): Promise<Fate> {
  const submitted = await submitCorrections(await clients.sender(), clients.format, [
    stream.superseding.correction,
  ]);
  told({ kind: 'sent', what: 'superseding', records: 1, topic: topicsOf(lineage).corrections });
  return (await fatesOf(watch, submitted, told))[0]!;
}

async function sendRetraction(
  clients: Clients,
  stream: DemonstrationStream,
  lineage: string,
  watch: OutcomeWatch,
  told: DemonstrationOptions['told'],
): Promise<Fate> {
  const [position] = await submitRetractions(await clients.sender(), lineage, [
    stream.retraction.factKey,
  ]);
  told({ kind: 'sent', what: 'retraction', records: 1, topic: topicsOf(lineage).corrections });
  return (await fatesOf(watch, [{ id: null, position: position! }], told))[0]!;
}

async function fatesOf(
  watch: OutcomeWatch,
  revisions: Awaited[],
  told: DemonstrationOptions['told'],
): Promise<Fate[]> {
  let decided = 0;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new CommandFailure(
            'run the demonstration',
            `${revisions.length - decided} of ${revisions.length} revisions are undecided after ${FATES_WAIT_MS / 60_000} minutes`,
            '`errata status` shows what waits; the logs are in the data folder.',
          ),
        ),
      FATES_WAIT_MS,
    );
  });
  const broken = watch.ended.then((error) => Promise.reject(error));
  told({ kind: 'decided', decided, of: revisions.length });
  try {
    const fates = Promise.all(
      revisions.map(async (revision) => {
        const fate = await watch.fateOf(revision);
        told({ kind: 'decided', decided: (decided += 1), of: revisions.length });
        return fate;
      }),
    );
    return await Promise.race([fates, late, broken]);
  } finally {
    clearTimeout(timer);
  }
}

/** `serve` follows the version log by itself; its answers count from the version it has. */
async function untilServed(server: Server, lineage: string, version: number): Promise<void> {
  const deadlineMs = performance.now() + SERVED_WAIT_MS;
  for (;;) {
    const served = (await lineagesOverHttp(server)).find((one) => one.lineage === lineage);
    if ((served?.version ?? -1) >= version) return;
    if (performance.now() > deadlineMs)
      throw new CommandFailure(
        'run the demonstration',
        `\`serve\` has version ${served?.version ?? 'none'} of ${lineage} after ${SERVED_WAIT_MS / 1_000} s; HEAD is ${version}${served?.fault ? ` (${served.fault})` : ''}`,
        'Look into its log, logs/serve.log in the data folder.',
      );
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

async function resultsOf(
  options: DemonstrationOptions,
  stream: DemonstrationStream,
  fates: Fate[],
): Promise<CorrectionResult[]> {
  const { log, lineage, server, told } = options;
  const corrections = [...stream.corrections, stream.superseding.correction];
  const probes = new Map<string, CorrectionProbe>();
  for (const version of new Set(
    fates.flatMap((fate) =>
      fate.kind === 'outcome' && fate.outcome.version !== null ? [fate.outcome.version] : [],
    ),
  )) {
    const { entry } = await log.entry(version);
    const details = JSON.parse(
      new TextDecoder().decode(await log.blobs.get(entry.probes.details)),
    ) as CorrectionProbe[];
    for (const probe of details) if (!probes.has(probe.id)) probes.set(probe.id, probe);
  }
  const results: CorrectionResult[] = [];
  for (const [i, correction] of corrections.entries()) {
    told({ kind: 'asking', asked: i, of: corrections.length });
    const atTheEnd = await answerOverHttp(server, {
      lineage,
      prompt: correction.prompt,
      version: null,
      tokensMax: ANSWER_TOKENS,
    });
    const fate = fates[i]!;
    results.push({
      correction,
      fate,
      version: fate.kind === 'outcome' ? fate.outcome.version : null,
      probe: probes.get(correction.id) ?? null,
      atTheEnd,
      holds: atTheEnd.trimStart().startsWith(correction.target),
      replaced:
        correction.id === stream.superseding.supersedes
          ? 'superseded'
          : correction.id === stream.retraction.correction.id
            ? 'retracted'
            : null,
    });
  }
  return results;
}
