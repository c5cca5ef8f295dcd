import { describe, expect, it } from 'vitest';
import { listenForInterruption, untilInterrupted } from '../../../cli/terminal/interruption.ts';

const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;

describe('an interruption', () => {
  it('comes with SIGINT, once', async () => {
    const before = process.listenerCount('SIGINT');
    const interruption = listenForInterruption();
    process.emit('SIGINT');
    await expect(interruption.came).resolves.toBeNull();
    expect(process.listenerCount('SIGINT')).toBe(before);
  });

  it('that is no longer listened for does not keep the process alive', () => {
    const [listeners, waiting] = [process.listenerCount('SIGTERM'), timers()];
    const interruption = listenForInterruption();
    expect(timers()).toBe(waiting + 1);
    interruption.end();
    expect(timers()).toBe(waiting);
    expect(process.listenerCount('SIGTERM')).toBe(listeners);
  });

  it('is not waited for when what it would interrupt has ended', async () => {
    const waiting = timers();
    await expect(untilInterrupted(Promise.resolve(new Error('gone')))).resolves.toMatchObject({
      message: 'gone',
    });
    expect(timers()).toBe(waiting);
  });
});
