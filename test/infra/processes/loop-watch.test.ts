import { expect, test } from 'vitest';
import { processLog } from '../../../infra/processes/process-log.ts';
import { watchLoop } from '../../../infra/processes/loop-watch.ts';

test('the longest block of the event loop is measured', async () => {
  const watch = watchLoop(processLog('test', 'silent'));
  // The timer of the monitor must have run once before the loop is blocked.
  await new Promise((resolve) => setTimeout(resolve, 50));
  const until = performance.now() + 300;
  while (performance.now() < until);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(watch.longestMs()).toBeGreaterThan(250);
});
