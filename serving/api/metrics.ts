/** What the server tells Prometheus. Everything that knows prom-client is here. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Answer } from '../answers/answers.ts';
import { heldBy, type FollowedLineages } from '../answers/followed-lineages.ts';
import type { ModelQueue } from '../../model/engine/model-queue.ts';

export interface ServingMetrics {
  answered(answer: Answer): void;
  requested(route: string, status: number, seconds: number): void;
  /** In Prometheus' text form. */
  text(): Promise<string>;
  readonly contentType: string;
}

const SECONDS_BUCKETS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export function servingMetrics(followed: FollowedLineages, queue: ModelQueue): ServingMetrics {
  const registers = [new Registry()];
  const [registry] = registers as [Registry];
  collectDefaultMetrics({ register: registry });
  const seconds = new Histogram({
    name: 'errata_request_seconds',
    help: 'Seconds a request took, its waiting included.',
    labelNames: ['route', 'status'],
    buckets: SECONDS_BUCKETS,
    registers,
  });
  const tokens = new Counter({
    name: 'errata_tokens_total',
    help: 'Tokens read and written.',
    labelNames: ['lineage', 'kind'],
    registers,
  });
  const openings = new Counter({
    name: 'errata_gate_openings_total',
    help: 'Gates that opened, by token and layer.',
    labelNames: ['lineage'],
    registers,
  });
  const answersEdited = new Counter({
    name: 'errata_answers_total',
    help: 'Answers, by whether a gate opened on the way.',
    labelNames: ['lineage', 'edited'],
    registers,
  });
  new Gauge({
    name: 'errata_head_version',
    help: 'The version that is served.',
    labelNames: ['lineage'],
    registers,
    collect() {
      for (const { lineage, served } of followed.all())
        if (served !== null) this.set({ lineage }, served.head.version);
    },
  });
  new Gauge({
    name: 'errata_newest_version',
    help: 'The newest version that can be read; above errata_head_version where an alias holds an older one, or its hook is not built yet.',
    labelNames: ['lineage'],
    registers,
    collect() {
      for (const { lineage, head } of followed.all())
        if (head !== null) this.set({ lineage }, head.head.version);
    },
  });
  new Gauge({
    name: 'errata_version_held',
    help: '1 where the alias stable holds a version, whatever HEAD is; 0 where HEAD is served.',
    labelNames: ['lineage'],
    registers,
    collect() {
      for (const one of followed.all())
        this.set({ lineage: one.lineage }, heldBy(one) === null ? 0 : 1);
    },
  });
  new Gauge({
    name: 'errata_log_fault',
    help: '1 where the version log, its aliases or a hook could not be read the last time.',
    labelNames: ['lineage'],
    registers,
    collect() {
      for (const { lineage, fault } of followed.all())
        this.set({ lineage }, fault === null ? 0 : 1);
    },
  });
  new Gauge({
    name: 'errata_corrections',
    help: 'Corrections that hold in the version that is served.',
    labelNames: ['lineage'],
    registers,
    collect() {
      for (const { lineage, served } of followed.all())
        if (served !== null) this.set({ lineage }, served.active.size);
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
      answersEdited.inc({ lineage, edited: String(opened.length > 0) });
    },
    requested: (route, status, duration) =>
      seconds.observe({ route, status: String(status) }, duration),
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
}
