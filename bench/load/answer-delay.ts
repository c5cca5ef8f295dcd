/** The delay from a correction's submission to the answer, one at a time on an idle system. */
import { setTimeout as delay } from 'node:timers/promises';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import { tail } from '../../pipelines/kafka/tail.ts';
import type { FactCorrection } from '../../schemas/correction.ts';
import type { LoadedSystem } from './loaded-system.ts';

export interface AnswerDelays {
  batchWaitMs: number;
  /** Ascending, of the corrections that were committed. */
  seconds: number[];
  medianSeconds: number;
  p95Seconds: number;
  /** Corrections that the probes refused. */
  refused: number;
}

const COMPANIES = `
  Oracle Siemens Renault Philips Toyota Airbus Adobe Volvo Ericsson Sony Boeing Nokia Samsung
  Michelin Barclays Heineken Panasonic Bayer Pfizer Unilever Intel Fujitsu Nestle Danone
`
  .trim()
  .split(/\s+/);
const CITIES = ['Nashville', 'Oslo', 'Vienna', 'Madrid'];
const REST_MS = 500;
const LOOK_EVERY_MS = 20;
const TOKENS_MAX = 6;

/** Number of corrections there are; each can be used once on a system. */
export const DELAY_CORRECTIONS = COMPANIES.length;

/** Measures with these corrections on a system that runs all four processes. */
export async function measureAnswerDelay(
  system: LoadedSystem,
  batchWaitMs: number,
  { from, count }: { from: number; count: number },
): Promise<AnswerDelays> {
  const lineage = system.lineages[0]!;
  const decided = new Map<string, string>();
  const reader = await tail(
    system.kafka,
    [lineage],
    { from: 'end', format: SINGLE_OBJECT_FORMAT },
    (announcement) => {
      if (announcement.kind === 'outcome')
        decided.set(announcement.outcome.revisionId, announcement.outcome.status);
    },
  );
  const seconds: number[] = [];
  let refused = 0;
  for (let number = from; number < from + count; number++) {
    const correction = companyCorrection(lineage, number);
    const before = await servedVersion(system, lineage);
    const began = performance.now();
    await system.submit([correction]);
    const answered = await untilAnswered(
      system,
      correction,
      before,
      () => decided.get(correction.id) ?? 'COMMITTED',
    );
    if (answered) seconds.push((performance.now() - began) / 1_000);
    else refused++;
    await delay(REST_MS);
  }
  await reader.stop();
  seconds.sort((a, b) => a - b);
  return {
    batchWaitMs,
    seconds,
    medianSeconds: quantile(seconds, 0.5),
    p95Seconds: quantile(seconds, 0.95),
    refused,
  };
}

/** Resolves to false if the correction was refused. */
async function untilAnswered(
  system: LoadedSystem,
  correction: FactCorrection,
  before: number,
  outcome: () => string,
): Promise<boolean> {
  // Answering takes a processor that the edit needs, so the version is polled first.
  while ((await servedVersion(system, correction.lineage)) === before) {
    if (outcome() !== 'COMMITTED') return false;
    await delay(LOOK_EVERY_MS);
  }
  const answer = (await ask(system, '/v1/completions', {
    model: correction.lineage,
    prompt: correction.prompt,
    max_tokens: TOKENS_MAX,
    temperature: 0,
  })) as { choices: { text: string }[] };
  const { text } = answer.choices[0]!;
  if (!text.trim().startsWith(correction.target))
    throw new Error(
      `a new version answers "${correction.prompt}" with "${text}", not "${correction.target}"`,
    );
  return true;
}

async function servedVersion(system: LoadedSystem, lineage: string): Promise<number> {
  const { lineages } = (await ask(system, '/v1/lineages')) as {
    lineages: { lineage: string; version: number | null }[];
  };
  return lineages.find((one) => one.lineage === lineage)?.version ?? 0;
}

async function ask(system: LoadedSystem, route: string, body?: object): Promise<unknown> {
  const headers = { 'content-type': 'application/json' };
  const post = { method: 'POST', headers, body: JSON.stringify(body) };
  const url = `http://127.0.0.1:${system.servePort}${route}`;
  const response = await fetch(url, body === undefined ? {} : post);
  if (!response.ok)
    throw new Error(`serve answers ${route} with ${response.status}: ${await response.text()}`);
  return await response.json();
}

function companyCorrection(lineage: string, number: number): FactCorrection {
  const company = COMPANIES[number]!;
  return {
    id: `delay-${number}`,
    lineage,
    subject: company,
    relation: null,
    prompt: `The headquarters of ${company} are in the city of`,
    target: CITIES[number % CITIES.length]!,
    previousAnswer: null,
    paraphrases: [
      `The main office of ${company} is found in the city of`,
      `The company ${company} is run from offices in the city of`,
    ],
    neighbourhood: [
      'The headquarters of Ford are in the city of',
      'The headquarters of Shell are in the city of',
    ],
    source: 'load measurement',
    issuedAt: Date.now(),
  };
}

/** The smallest value that at least this share does not exceed. */
function quantile(ascending: readonly number[], share: number): number {
  return ascending[Math.max(0, Math.ceil(share * ascending.length) - 1)] ?? Number.NaN;
}
