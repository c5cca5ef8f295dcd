/**
 * Runs the demonstration against a running system: sends its stream, waits for every outcome, and
 * checks the results.
 */
import type { CorrectionProbe } from '../../schemas/editing.ts';
import type { LineageEvent } from '../../pipelines/kafka/tail.ts';
import { submitCorrections, submitRetractions } from '../../pipelines/kafka/submit.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import { probesOf } from '../../versions/audit/version-mark.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { answerOverHttp, lineagesOverHttp, type Server } from '../session/answering.ts';
import type { Clients } from '../session/clients.ts';
import { OutcomeWatch, type RecordOutcome, type SentRecord } from '../session/outcome-watch.ts';
import { failed } from '../terminal/command-failure.ts';
import { checksOf } from './checks.ts';
import type { CorrectionResult, DemonstrationEvent, DemonstrationReport } from './report.ts';
import { demonstrationStream, type DemonstrationStream } from './stream.ts';

export interface DemonstrationOptions {
  clients: Clients;
  log: VersionLog;
  server: Server;
  /** The number of this run in the data folder, starting at 1. */
  run: number;
  report: (event: DemonstrationEvent) => void;
}

export function runDemonstration(options: DemonstrationOptions): Promise<DemonstrationReport> {
  return new Demonstration(options).run();
}

/** Allows for a long outage. */
const OUTCOMES_WAIT_SECONDS = 1_800;
const SERVED_WAIT_MS = 120_000;
const LOOK_EVERY_MS = 250;
/** A target has at most four tokens. */
const ANSWER_TOKENS = 5;

class Demonstration {
  readonly #options: DemonstrationOptions;
  readonly #stream: DemonstrationStream;
  readonly #topic: string;
  readonly #startedMs = performance.now();
  #watch!: OutcomeWatch;

  constructor(options: DemonstrationOptions) {
    const { lineage } = options.log;
    this.#options = options;
    this.#stream = demonstrationStream(lineage, options.run, Date.now());
    this.#topic = topicsOf(lineage).corrections;
  }

  async run(): Promise<DemonstrationReport> {
    const { clients, log } = this.#options;
    const { corrections, malformed, superseding, retraction } = this.#stream;
    this.#watch = await OutcomeWatch.start(
      clients,
      [log.lineage],
      (event) => void this.#report(event),
    );
    try {
      const sent = await this.#sendCorrections();
      const outcomes = await this.#outcomesOf(sent);
      const sender = await clients.sender();
      const second = [superseding.correction];
      const [superseded] = await submitCorrections(sender, clients.format, second);
      this.#sent('superseding', 1);
      const [supersedingOutcome] = await this.#outcomesOf([superseded!]);
      const [position] = await submitRetractions(sender, log.lineage, [retraction.factKey]);
      this.#sent('retraction', 1);
      const [retractionOutcome] = await this.#outcomesOf([{ id: null, position: position! }]);
      const head = (await log.read()).head.version;
      await this.#untilServed(head);
      const count = corrections.length;
      const results = await this.#resultsOf([...outcomes.slice(0, count), supersedingOutcome!]);
      const baseAnswer = await this.#answer(retraction.correction.prompt, 0);
      const report = {
        lineage: log.lineage,
        results,
        tooLong: outcomes[count]!,
        malformed: malformed.map(({ what }, i) => ({ what, fate: outcomes[count + 1 + i]! })),
        head,
        seconds: (performance.now() - this.#startedMs) / 1_000,
      };
      const checks = checksOf(report, { fate: retractionOutcome!, baseAnswer });
      return { ...report, checks, passed: checks.every(({ passed }) => passed) };
    } finally {
      await this.#watch.stop();
    }
  }

  async #report(event: LineageEvent): Promise<void> {
    const { log, report } = this.#options;
    const { corrections, tooLong, superseding } = this.#stream;
    if (event.kind === 'version') {
      const secondsAfterSending = (performance.now() - this.#startedMs) / 1_000;
      const { entry } = await log.entry(event.version.version);
      report({ kind: 'version', entry, secondsAfterSending });
    } else if (event.kind === 'outcome') {
      const { revisionId: id, status, reason } = event.outcome;
      // Skip corrections of an earlier run, which this run supersedes.
      if ([...corrections, tooLong, superseding.correction].some((one) => one.id === id))
        report({ kind: 'outcome', id, status, reason });
    } else if (event.kind === 'dead-letter') report({ kind: event.kind, message: event.message });
  }

  /** Sends the malformed records between the others; they come last in the result. */
  async #sendCorrections(): Promise<SentRecord[]> {
    const { format, sender: senderOf } = this.#options.clients;
    const sender = await senderOf();
    const { corrections, malformed: records, tooLong } = this.#stream;
    const half = Math.ceil(corrections.length / 2);
    const first = await submitCorrections(sender, format, corrections.slice(0, half));
    const malformed: SentRecord[] = [];
    for (const { record } of records) {
      const send = async () => {
        if (record.kind === 'bytes')
          return (await sender.send(this.#topic, [{ key: record.key, value: record.value }]))[0]!;
        const unsound = [record.correction];
        return (await submitCorrections(sender, format, unsound, { unsound: 'send' }))[0]!.position;
      };
      malformed.push({ id: null, position: await send() });
    }
    const rest = await submitCorrections(sender, format, [...corrections.slice(half), tooLong]);
    const sent = [...first, ...rest, ...malformed];
    this.#sent('corrections', sent.length);
    return sent;
  }

  #sent(what: 'corrections' | 'superseding' | 'retraction', records: number): void {
    this.#options.report({ kind: 'sent', what, records, topic: this.#topic });
  }

  async #outcomesOf(records: readonly SentRecord[]): Promise<RecordOutcome[]> {
    const { report } = this.#options;
    let decided = 0;
    report({ kind: 'decided', decided, of: records.length });
    return await this.#watch.outcomesOf(records, OUTCOMES_WAIT_SECONDS, () =>
      report({ kind: 'decided', decided: (decided += 1), of: records.length }),
    );
  }

  /** `serve` follows the version log with a delay. */
  async #untilServed(version: number): Promise<void> {
    const { server, log } = this.#options;
    const deadlineMs = performance.now() + SERVED_WAIT_MS;
    for (;;) {
      const served = (await lineagesOverHttp(server)).find((one) => one.lineage === log.lineage);
      if ((served?.version ?? -1) >= version) return;
      if (performance.now() > deadlineMs)
        throw failed(
          `\`serve\` has version ${served?.version ?? 'none'} of ${log.lineage} after ` +
            `${SERVED_WAIT_MS / 1_000} s; HEAD is ${version}` +
            (served?.fault ? ` (${served.fault})` : ''),
          'Its log is logs/serve.log in the data folder.',
        );
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  }

  async #resultsOf(outcomes: readonly RecordOutcome[]): Promise<CorrectionResult[]> {
    const { corrections: first, superseding, retraction } = this.#stream;
    const corrections = [...first, superseding.correction];
    const versions = outcomes.map((one) => (one.kind === 'outcome' ? one.outcome.version : null));
    const probes = await this.#probesOf(new Set(versions));
    const results: CorrectionResult[] = [];
    for (const [i, correction] of corrections.entries()) {
      const { id, prompt, target } = correction;
      this.#options.report({ kind: 'asking', asked: i, of: corrections.length });
      const atTheEnd = await this.#answer(prompt, null);
      const retracted = id === retraction.correction.id ? 'retracted' : null;
      results.push({
        correction,
        fate: outcomes[i]!,
        version: versions[i]!,
        probe: probes.get(id) ?? null,
        atTheEnd,
        holds: atTheEnd.trimStart().startsWith(target),
        replaced: id === superseding.supersedes ? 'superseded' : retracted,
      });
    }
    return results;
  }

  /** Returns each correction's probes by its id, from the version that made it. */
  async #probesOf(versions: ReadonlySet<number | null>): Promise<Map<string, CorrectionProbe>> {
    const { log } = this.#options;
    const probes = new Map<string, CorrectionProbe>();
    for (const version of versions) {
      if (version === null) continue;
      const { entry } = await log.entry(version);
      for (const probe of await probesOf(log, entry.probes.details))
        if (!probes.has(probe.id)) probes.set(probe.id, probe);
    }
    return probes;
  }

  async #answer(prompt: string, version: number | null): Promise<string> {
    const { server, log } = this.#options;
    const question = { lineage: log.lineage, prompt, version, tokensMax: ANSWER_TOKENS };
    return await answerOverHttp(server, question);
  }
}
