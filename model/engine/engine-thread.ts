/** Runs in the thread that thread-engine.ts starts: loads the engine and answers calls. */
import { parentPort, workerData } from 'node:worker_threads';
import type { EngineOptions } from './loaded-model.ts';
import { LocalEngine } from './local-engine.ts';
import {
  OPENING,
  type EngineCall,
  type EngineReply,
  type ThrownInThread,
} from './thread-engine.ts';

const port = parentPort;
if (port === null)
  throw new Error('this file runs in a worker thread, started by thread-engine.ts');
const say = (reply: EngineReply): void => port.postMessage(reply);
const newsOf =
  (id: number) =>
  (...news: unknown[]) =>
    say({ kind: 'news', id, news });

try {
  const engine = await LocalEngine.open(workerData as EngineOptions, newsOf(OPENING));
  port.on('message', ({ id, method, arguments: given, hearsNews }: EngineCall) => {
    const call = engine[method].bind(engine) as (...given: unknown[]) => Promise<unknown>;
    call(...given, ...(hearsNews ? [newsOf(id)] : [])).then(
      (result) => say({ kind: 'result', id, result }),
      (error: unknown) => say({ kind: 'error', id, error: thrown(error) }),
    );
  });
  say({ kind: 'result', id: OPENING, result: null });
} catch (error) {
  say({ kind: 'error', id: OPENING, error: thrown(error) });
}

function thrown(error: unknown): ThrownInThread {
  if (!(error instanceof Error))
    return { name: 'Error', message: String(error), stack: undefined, facts: {} };
  const facts = Object.fromEntries(
    Object.entries(error).filter(([, value]) =>
      ['string', 'number', 'boolean'].includes(typeof value),
    ),
  );
  return { name: error.name, message: error.message, stack: error.stack, facts };
}
