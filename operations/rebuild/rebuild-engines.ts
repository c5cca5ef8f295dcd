/** Holds the models of a rebuild, one at a time, with the steps that use it. */
import { provenanceOf } from '../../activities/batch/step-rows.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { HyperParameters } from '../../schemas/hyper-parameters.ts';
import type { Provenance } from '../../schemas/editing.ts';
import { canonicalJson } from '../../versions/log/canonical-json.ts';
import type { Versions } from '../../versions/versions.ts';
import { localSteps, type LocalSteps } from '../local-batch.ts';

export interface RebuildEngine {
  engine: Engine;
  steps: LocalSteps;
  madeWith: Provenance;
}

/** Loads the model with these hyper-parameters; null: the configured ones. */
export type OpenEngine = (parameters: HyperParameters | null) => Promise<Engine>;

/** Loads the model when it is first needed, and again for other hyper-parameters. */
export class RebuildEngines {
  #current: RebuildEngine | null = null;

  constructor(
    private readonly open: OpenEngine,
    private readonly versions: Versions,
  ) {}

  /** Null: the configured hyper-parameters, or those that are loaded already. */
  async with(parameters: HyperParameters | null): Promise<RebuildEngine> {
    const current = this.#current;
    const isSame =
      parameters === null || sameParameters(current?.madeWith.parameters ?? {}, parameters);
    if (current !== null && isSame) return current;
    await this.close();
    const engine = await this.open(parameters);
    const madeWith = await provenanceOf(engine);
    return (this.#current = { engine, madeWith, steps: localSteps(engine, this.versions) });
  }

  async close(): Promise<void> {
    const current = this.#current;
    this.#current = null;
    await current?.engine.close();
  }
}

/** Tells whether two sets of hyper-parameters are equal, ignoring the order of members. */
export function sameParameters(a: object, b: object): boolean {
  return Buffer.from(canonicalJson(a)).equals(canonicalJson(b));
}
