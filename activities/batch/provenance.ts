/** The provenance that an engine writes into the versions it makes. */
import type { Engine } from '../../model/engine/engine.ts';
import type { Provenance } from '../../schemas/editing.ts';

export async function provenanceOf(engine: Engine): Promise<Provenance> {
  const { model, keyStatistics, parameters, software } = await engine.describe();
  return {
    base: { name: model.name, sha256: model.sha256, architecture: model.architecture },
    keyStatistics,
    parameters,
    software,
  };
}
