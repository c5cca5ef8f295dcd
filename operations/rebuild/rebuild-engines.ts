/**
 * Where a lineage is rebuilt: the activities of a batch in this process, with a model loaded here.
 * No workflow runs them, so what is done and in which order is said by the files beside this one.
 */
import {
  createEditActivities,
  createLedgerActivities,
  type EditActivities,
  type LedgerActivities,
} from '../../activities/index.ts';
import { provenanceOf } from '../../activities/batch/provenance.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { HyperParameters, Provenance } from '../../schemas/editing.ts';
import type { Versions } from '../../versions/versions.ts';

/** A model with its hyper-parameters and the steps that work on it. */
export interface Workplace {
  engine: Engine;
  steps: EditActivities & LedgerActivities;
  madeWith: Provenance;
}

/** Loads the model; with hyper-parameters, those and no others. */
export type OpenEngine = (parameters: HyperParameters | null) => Promise<Engine>;

/**
 * Keeps one workplace open: the model is loaded when it is first needed, and again where other
 * hyper-parameters are asked for.
 */
export class Workplaces {
  readonly #open: OpenEngine;
  readonly #versions: Versions;
  #now: Workplace | null = null;

  constructor(open: OpenEngine, versions: Versions) {
    this.#open = open;
    this.#versions = versions;
  }

  /** Null: the hyper-parameters that are configured, or those that are loaded already. */
  async with(parameters: HyperParameters | null): Promise<Workplace> {
    if (
      this.#now !== null &&
      (parameters === null || sameParameters(this.#now.madeWith.parameters, parameters))
    )
      return this.#now;
    await this.close();
    const engine = await this.#open(parameters);
    this.#now = {
      engine,
      madeWith: await provenanceOf(engine),
      steps: {
        ...createEditActivities({ engine, versions: this.#versions }),
        ...createLedgerActivities({ versions: this.#versions }),
      },
    };
    return this.#now;
  }

  async close(): Promise<void> {
    const open = this.#now;
    this.#now = null;
    await open?.engine.close();
  }
}

/** Whether two sets say the same, whatever the order of their members. */
export function sameParameters(
  a: Readonly<Record<string, unknown>> | HyperParameters,
  b: Readonly<Record<string, unknown>> | HyperParameters,
): boolean {
  return sorted(a) === sorted(b);
}

function sorted(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    part !== null && typeof part === 'object' && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
