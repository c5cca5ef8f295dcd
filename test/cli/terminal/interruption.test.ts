import { expect, test } from 'vitest';
import { listenForInterruption, untilInterrupted } from '../../../cli/terminal/interruption.ts';

const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;

test('SIGINT interrupts once', async () => {
  const before = process.listenerCount('SIGINT');
  const interruption = listenForInterruption();
  process.emit('SIGINT');
  await expect(interruption.came).resolves.toBeNull();
  expect(process.listenerCount('SIGINT')).toBe(before);
});

test('an interruption without listeners does not keep the process alive', () => {
  const [listeners, waiting] = [process.listenerCount('SIGTERM'), timers()];
  const interruption = listenForInterruption();
  expect(timers()).toBe(waiting + 1);
  interruption.end();
  expect(timers()).toBe(waiting);
  expect(process.listenerCount('SIGTERM')).toBe(listeners);
});

test('an interruption is not awaited once the work has ended', async () => {
  const waiting = timers();
  await expect(untilInterrupted(Promise.resolve(new Error('gone')))).resolves.toMatchObject({
    message: 'gone',
  });
  expect(timers()).toBe(waiting);
});
