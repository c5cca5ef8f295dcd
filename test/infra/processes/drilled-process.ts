/**
 * A process of ours that does nothing, in the way its first argument says. Started by
 * run-process.test.ts.
 */
import { runProcess } from '../../../infra/processes/run-process.ts';

const way = process.argv[2];

runProcess('drilled', async ({ step }) => {
  step('warming up', 0.5);
  if (way === 'start-never-ends') await new Promise(() => setInterval(() => {}, 60_000));
  if (way === 'start-fails') throw new Error('no model');
  const alive = setInterval(() => {}, 60_000);
  return {
    port: 4_321,
    ...(way === 'ends-by-itself' ? { ended: Promise.reject(new Error('the worker is gone')) } : {}),
    stop: async () => {
      if (way === 'drain-fails') throw new Error('a request hangs');
      clearInterval(alive);
      await new Promise((resolve) => setImmediate(resolve));
      process.send?.({ kind: 'drained' });
    },
  };
});
