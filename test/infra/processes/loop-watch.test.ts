import { expect, it } from 'vitest';
import { processLog } from '../../../infra/processes/process-log.ts';
import { watchLoop } from '../../../infra/processes/loop-watch.ts';

it('knows how long the event loop was held', async () => {
  const watch = watchLoop(processLog('test', 'silent'));
  // The monitor samples by a timer of its own, which has to have run once before the loop is held.
  await new Promise((resolve) => setTimeout(resolve, 50));
  const until = performance.now() + 300;
  while (performance.now() < until);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(watch.longestMs()).toBeGreaterThan(250);
});
