/**
 * Prints the answers of an engine in the main thread, as a process: two threads of one process
 * cannot own TensorFlow.
 */
import type { EditRequest } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { EngineOptions } from '../../model/engine/loaded-model.ts';
import { LocalEngine } from '../../model/engine/local-engine.ts';

export const REQUESTS: EditRequest[] = [
  {
    id: 'country',
    subject: 'the old country',
    prompt: 'the capital of the old country is',
    target: 'in',
  },
  { id: 'tom', subject: 'tom', prompt: 'the mother tongue of tom is', target: 'and' },
  { id: 'absent', subject: 'rome', prompt: 'the capital is', target: 'a' },
];

/**
 * Calls every method of the engine in sequence, with its progress events; elapsed seconds are
 * omitted.
 */
export async function answersOf(engine: Engine): Promise<unknown> {
  const { software: _, ...described } = await engine.describe();
  const heldBefore = await engine.holds('two');
  const steps: number[] = [];
  const { seconds: __, ...computed } = await engine.computeTargets(null, REQUESTS, ({ step }) =>
    steps.push(step),
  );
  const { seconds: ___, ...derived } = await engine.deriveUpdate(null, REQUESTS, computed.targets);
  const report = await engine.holdHook('two', derived.pairs);
  const held = await engine.holds('two');
  const probed = await engine.probe(
    'two',
    REQUESTS.map(({ prompt, target }) => ({ prompt, target, greedyTokensMax: 3 })),
  );
  const canary = await engine.canary('two');
  const spoken: string[] = [];
  const generation = await engine.generate(
    'two',
    REQUESTS[0]!.prompt,
    { tokensMax: 5, temperature: 1, seed: 1 },
    ({ text }) => spoken.push(text),
  );
  const refused = await engine.probe('none', []).catch((error: Error) => ({
    name: error.name,
    message: error.message,
    hookId: (error as Error & { hookId?: string }).hookId,
  }));
  const answers = {
    described,
    heldBefore,
    steps,
    computed,
    derived,
    report,
    held,
    probed,
    canary,
    spoken,
    generation,
    refused,
  };
  return JSON.parse(
    JSON.stringify(answers, (_key, value: unknown) =>
      value instanceof Float32Array ? [...value] : value,
    ),
  );
}

if (process.argv[2] === 'as-process') {
  const engine = await LocalEngine.open(JSON.parse(process.argv[3]!) as EngineOptions);
  process.stdout.write(JSON.stringify(await answersOf(engine)));
  await engine.close();
}
