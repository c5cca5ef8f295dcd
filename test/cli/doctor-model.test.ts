import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { EXIT } from '../../cli/terminal/exit-code.ts';
import { fitOf, type ModelNeed } from '../../infra/setup/doctor/model-need.ts';
import { testFolder } from '../harness/clean-up.ts';
import { invoke } from '../harness/invocation.ts';
import { tinyPath } from '../harness/tiny-model.ts';

let folder: string;
beforeEach(() => void (folder = testFolder()));

const doctor = (args: string[], environment: NodeJS.ProcessEnv = {}) =>
  invoke(folder, ['doctor', ...args], environment);

test('a model that fits is shown with shape, parameter set and memory', async () => {
  const { code, out } = await doctor(['--model', tinyPath('gptj')]);
  expect(code).toBe(EXIT.ok);
  expect(out).toMatch(/architecture\s+gptj/);
  expect(out).toContain('Parameter set: general rule');
  expect(out).toMatch(/edited layers\s+1/);
  expect(out).toContain('edit-worker');
  expect(out).toContain('It fits');
});

test('a model that does not fit exits with 1, from its config.json alone', async () => {
  const far = {
    model_type: 'llama',
    hidden_size: 16_384,
    intermediate_size: 53_248,
    num_hidden_layers: 126,
    num_attention_heads: 128,
    num_key_value_heads: 8,
    vocab_size: 128_256,
    max_position_embeddings: 131_072,
    rms_norm_eps: 1e-5,
    rope_theta: 500_000,
    hidden_act: 'silu',
    tie_word_embeddings: false,
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(far));
  const { code, out } = await doctor(['--model', folder, '--json']);
  expect(code).toBe(EXIT.failure);
  const need = JSON.parse(out) as ModelNeed;
  expect(need.fits).toBe(false);
  expect(need.sentence).toMatch(/^It will not fit: about \d+\.\d GB are needed, the machine has /);
  expect(need.memory.parameterCount).toBeGreaterThan(400e9);
  expect(need.memory.parts.weightsBytes).toBe(4 * need.memory.parameterCount);
});

test("the user's own set is applied, and a set for another model is refused", async () => {
  const file = join(folder, 'set.json');
  writeFileSync(
    file,
    JSON.stringify({
      name: 'mine',
      source: 'tuned by hand',
      fits: { architecture: 'gptj', layers: 4 },
      parameters: { layers: [2, 3], lambda: 99 },
    }),
  );
  const { out } = await doctor(['--model', tinyPath('gptj'), '--json'], {
    ERRATA_PARAMETER_SET: file,
    ERRATA_HYPER_PARAMETERS: '{"lambda": 77}',
  });
  const need = JSON.parse(out) as ModelNeed;
  expect(need.parameterSet.name).toBe('mine');
  expect(need.parameters).toMatchObject({ layers: [2, 3], lambda: 77 });
  const refused = await doctor(['--model', tinyPath('llama')], { ERRATA_PARAMETER_SET: file });
  expect(refused.code).toBe(EXIT.failure);
  expect(refused.err).toContain('for another model');
});

test('a path that is not a model is refused with the reason', async () => {
  const { code, err } = await doctor(['--model', folder]);
  expect(code).toBe(EXIT.failure);
  expect(err).toContain('neither config.json nor a .gguf file');
});

const memory = (worker: number, serve: number) =>
  ({
    processes: [
      { name: 'edit-worker', heldBytes: 0, peakBytes: worker },
      { name: 'serve', heldBytes: 0, peakBytes: serve },
    ],
  }) as unknown as ModelNeed['memory'];

test('the verdict adds both processes, and all others that share the memory', () => {
  expect(fitOf(memory(40e9, 30e9), { bytes: 80e9, of: 'machine' })).toMatchObject({
    fits: true,
    totalBytes: 71.2e9,
  });
  expect(fitOf(memory(40e9, 30e9), { bytes: 80e9, of: 'GPU' })).toMatchObject({
    fits: true,
    totalBytes: 70e9,
  });
});

test('the verdict says when two machines would suffice', () => {
  expect(fitOf(memory(40e9, 30e9), { bytes: 60e9, of: 'machine' }).sentence).toContain(
    'two machines',
  );
  expect(fitOf(memory(70e9, 30e9), { bytes: 60e9, of: 'machine' }).sentence).not.toContain(
    'two machines',
  );
});
