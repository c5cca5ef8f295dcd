/** Metrics for Prometheus. This is the only file that uses prom-client. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { ModelQueue } from '../../model/engine/model-queue.ts';
import type { Answer } from '../answers/answers.ts';
import {
  pinOf,
  type FollowedLineage,
  type FollowedLineages,
} from '../answers/followed-lineages.ts';

export interface ServingMetrics {
  answered(answer: Answer): void;
  requested(route: string, status: number, seconds: number): void;
  /** Returns all metrics in Prometheus' text format. */
  text(): Promise<string>;
  readonly contentType: string;
}

const SECONDS_BUCKETS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Gauges of each lineage: name, help, and value; undefined if not yet known. */
const LINEAGE_GAUGES: [string, string, (lineage: FollowedLineage) => number | undefined][] = [
  ['errata_head_version', 'The version that is served.', ({ served }) => served?.head.version],
  [
    'errata_newest_version',
    'The newest version that can be read; above errata_head_version where an alias holds an ' +
      'older one, or its hook is not built yet.',
    ({ head }) => head?.head.version,
  ],
  [
    'errata_version_held',
    '1 where the alias stable holds a version, whatever HEAD is; 0 where HEAD is served.',
    (lineage) => (pinOf(lineage) === null ? 0 : 1),
  ],
  [
    'errata_log_fault',
    '1 where the version log, its aliases or a hook could not be read the last time.',
    ({ fault }) => (fault === null ? 0 : 1),
  ],
  [
    'errata_corrections',
    'Active corrections of the version that is served.',
    ({ served }) => served?.active.size,
  ],
];

export function servingMetrics(followed: FollowedLineages, queue: ModelQueue): ServingMetrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const seconds = new Histogram({
    name: 'errata_request_seconds',
    help: 'Seconds a request took, its waiting included.',
    labelNames: ['route', 'status'],
    buckets: SECONDS_BUCKETS,
    registers,
  });
  const counter = (name: string, help: string, ...labelNames: string[]) =>
    new Counter({ name, help, labelNames: ['lineage', ...labelNames], registers });
  const tokens = counter('errata_tokens_total', 'Tokens read and written.', 'kind');
  const openings = counter('errata_gate_openings_total', 'Gates that opened, by token and layer.');
  const answers = counter(
    'errata_answers_total',
    'Answers, by whether a gate opened on the way.',
    'edited',
  );
  for (const [name, help, valueOf] of LINEAGE_GAUGES)
    new Gauge({
      name,
      help,
      labelNames: ['lineage'],
      registers,
      collect() {
        for (const one of followed.all()) {
          const value = valueOf(one);
          if (value !== undefined) this.set({ lineage: one.lineage }, value);
        }
      },
    });
  new Gauge({
    name: 'errata_requests_waiting',
    help: 'Requests that wait for the model.',
    registers,
    collect() {
      this.set(queue.waiting);
    },
  });
  return {
    answered({ lineage, generation, opened }) {
      tokens.inc({ lineage, kind: 'prompt' }, generation.promptTokens);
      tokens.inc({ lineage, kind: 'generated' }, generation.tokens.length);
      openings.inc({ lineage }, opened.length);
      answers.inc({ lineage, edited: String(opened.length > 0) });
    },
    requested: (route, status, duration) =>
      seconds.observe({ route, status: String(status) }, duration),
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
}
