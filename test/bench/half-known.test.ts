/**
 * What the editor must reach on thirty facts that SmolLM2 half knows, in three consecutive batches of ten. The records
 * are not part of this project: the test skips where they are not beside it.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { editStream } from '../../bench/edit-stream.ts';
import { readRecords } from '../../bench/records.ts';
import { readConfiguration } from '../../infra/configuration.ts';
import { engineOptions } from '../../infra/engine-options.ts';
import { PROJECT_ROOT } from '../../infra/home.ts';
import { LocalEngine } from '../../model/local-engine.ts';

const RECORDS = path.join(PROJECT_ROOT, '..', 'shared', 'data', 'half-known-30.json');

it.skipIf(!existsSync(RECORDS))(
  'half-known facts take, with their paraphrases, and leave neighbours and ordinary text alone',
  async () => {
    const engine = await LocalEngine.open(engineOptions(readConfiguration()));
    try {
      const result = await editStream(engine, await readRecords(RECORDS, 0, 30), 10, () => {});
      expect(result.batches).toBe(3);
      expect(result.refused).toBe(0);
      expect(result.before.efficacy).toBeLessThan(0.1);
      expect(result.efficacy).toBeGreaterThanOrEqual(0.95);
      expect(result.efficacyGreedy).toBeGreaterThanOrEqual(0.95);
      expect(result.paraphrase).toBeGreaterThanOrEqual(0.85);
      expect(result.neighboursUnchanged).toBeGreaterThanOrEqual(0.97);
      expect(result.perplexityRatio).toBeLessThanOrEqual(1.005);
    } finally {
      await engine.close();
    }
  },
  1_200_000,
);
