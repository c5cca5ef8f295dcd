/**
 * Measures the delay from submitting a correction to the answer, one at a time on an idle system.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { FactCorrection } from '../../schemas/correction.ts';
import type { LoadedSystem } from './loaded-system.ts';

export type AnswerDelays = Awaited<ReturnType<typeof measureAnswerDelay>>;

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

/** The number of available corrections. Each can be used once per system. */
export const DELAY_CORRECTIONS = COMPANIES.length;

/** Measures these corrections on a system that runs all four processes. */
export async function measureAnswerDelay(
  system: LoadedSystem,
  batchWaitMs: number,
  { from, count }: { from: number; count: number },
) {
  const lineage = system.lineages[0]!;
  const decided = new Map<string, string>();
  const reader = await system.outcomes('end', ({ revisionId, status }) => {
    decided.set(revisionId, status);
  });
  const seconds: number[] = [];
  for (let number = from; number < from + count; number++) {
    const correction = companyCorrection(lineage, number);
    const isRefused = () => (decided.get(correction.id) ?? 'COMMITTED') !== 'COMMITTED';
    const before = await servedVersion(system, lineage);
    const began = performance.now();
    await system.submit([correction]);
    // Generating an answer would compete with the edit for the CPU, so the version is polled first.
    let isServed = false;
    while (!isServed && !isRefused()) {
      isServed = (await servedVersion(system, lineage)) !== before;
      if (!isServed) await delay(LOOK_EVERY_MS);
    }
    if (isServed) {
      await checkAnswer(system, correction);
      seconds.push((performance.now() - began) / 1_000);
    }
    await delay(REST_MS);
  }
  await reader.stop();
  seconds.sort((a, b) => a - b);
  return {
    batchWaitMs,
    /** Delays of the committed corrections, ascending. */
    seconds,
    medianSeconds: quantile(seconds, 0.5),
    p95Seconds: quantile(seconds, 0.95),
    refused: count - seconds.length,
  };
}

async function checkAnswer(
  system: LoadedSystem,
  { lineage, prompt, target }: FactCorrection,
): Promise<void> {
  const question = { model: lineage, prompt, max_tokens: TOKENS_MAX, temperature: 0 };
  const { choices } = await ask<{ choices: { text: string }[] }>(
    system,
    '/v1/completions',
    question,
  );
  const { text } = choices[0]!;
  if (!text.trim().startsWith(target))
    throw new Error(`a new version answers "${prompt}" with "${text}", not "${target}"`);
}

async function servedVersion(system: LoadedSystem, lineage: string): Promise<number> {
  const { lineages } = await ask<{ lineages: { lineage: string; version: number | null }[] }>(
    system,
    '/v1/lineages',
  );
  return lineages.find((one) => one.lineage === lineage)?.version ?? 0;
}

async function ask<Answer>(system: LoadedSystem, route: string, body?: object): Promise<Answer> {
  const headers = { 'content-type': 'application/json' };
  const post = { method: 'POST', headers, body: JSON.stringify(body) };
  const response = await fetch(system.serveUrl + route, body === undefined ? {} : post);
  if (!response.ok)
    throw new Error(`serve answers ${route} with ${response.status}: ${await response.text()}`);
  return (await response.json()) as Answer;
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

/** Returns the smallest value that is at least as large as this share of the values. */
function quantile(ascending: readonly number[], share: number): number {
  return ascending[Math.max(0, Math.ceil(share * ascending.length) - 1)] ?? Number.NaN;
}
