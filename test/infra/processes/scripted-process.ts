/** A process without work, for run-process.test.ts; its first argument selects its behaviour. */
import { runProcess } from '../../../infra/processes/run-process.ts';

const behaviour = process.argv[2];

runProcess('scripted', async ({ step }) => {
  step('warming up', 0.5);
  if (behaviour === 'start-never-ends') await new Promise(() => setInterval(() => {}, 60_000));
  if (behaviour === 'start-fails') throw new Error('no model');
  const alive = setInterval(() => {}, 60_000);
  return {
    port: 4_321,
    ...(behaviour === 'ends-on-its-own'
      ? { ended: Promise.reject(new Error('the worker is gone')) }
      : {}),
    stop: async () => {
      if (behaviour === 'drain-fails') throw new Error('a request hangs');
      clearInterval(alive);
      await new Promise((resolve) => setImmediate(resolve));
      process.send?.({ kind: 'drained' });
    },
  };
});
