/** The thread's side of thread-engine.ts: loads the engine and answers calls. */
import { parentPort, workerData } from 'node:worker_threads';
import type { EngineOptions } from './loaded-model.ts';
import { LocalEngine } from './local-engine.ts';
import type { EngineCall, EngineReply, ThrownInThread } from './thread-engine.ts';

/** Calls whose last argument hears of progress. */
const TELLS_NEWS: ReadonlySet<string> = new Set(['computeTargets', 'generate']);

const port = parentPort;
if (port === null)
  throw new Error('this file runs in a worker thread, started by thread-engine.ts');
const say = (reply: EngineReply): void => port.postMessage(reply);

try {
  const engine = await LocalEngine.open(workerData as EngineOptions, (step, share) =>
    say({ kind: 'loading', step, share }),
  );
  port.on('message', (call: EngineCall) => {
    const news = (given: unknown) => say({ kind: 'news', id: call.id, news: given });
    const method = engine[call.method].bind(engine) as (...given: unknown[]) => Promise<unknown>;
    const given = TELLS_NEWS.has(call.method) ? [...call.arguments, news] : call.arguments;
    method(...given).then(
      (result) => say({ kind: 'result', id: call.id, result }),
      (error: unknown) => say({ kind: 'error', id: call.id, error: thrown(error) }),
    );
  });
  say({ kind: 'ready' });
} catch (error) {
  say({ kind: 'failed', error: thrown(error) });
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
