import { expect, it } from 'vitest';
import { ModelQueue, SWAP_PRIORITY } from '../../../model/engine/model-queue.ts';

/** Work that blocks until it is released. */
function heldWork() {
  let letGo = () => {};
  const held = new Promise<void>((resolve) => (letGo = resolve));
  return { work: () => held, letGo };
}

const patient = () => new AbortController().signal;

it('runs one turn at a time: the highest priority first, then the oldest', async () => {
  const queue = new ModelQueue();
  const { work, letGo } = heldWork();
  const order: string[] = [];
  const note = (name: string) => async () => void order.push(name);
  const turns = [
    queue.run(work),
    queue.run(note('first')),
    queue.ask(note('second'), { waitingMax: 9, signal: patient() }),
    queue.run(note('swap'), SWAP_PRIORITY),
  ];
  expect(queue.waiting).toBe(3);
  letGo();
  await Promise.all(turns);
  expect(order).toEqual(['swap', 'first', 'second']);
});

it('refuses a request past the bound, but not internal work', async () => {
  const queue = new ModelQueue();
  const { work, letGo } = heldWork();
  const bounds = { waitingMax: 1, signal: patient() };
  const turns = [queue.ask(work, bounds), queue.ask(async () => 'answer', bounds)];
  expect(await queue.ask(work, bounds)).toEqual({ kind: 'full', waiting: 1 });
  const swap = queue.run(async () => 'swapped', SWAP_PRIORITY);
  letGo();
  expect(await swap).toBe('swapped');
  expect((await Promise.all(turns))[1]).toEqual({ kind: 'done', result: 'answer' });
});

it('drops a client that leaves before its turn, but not a turn that began', async () => {
  const queue = new ModelQueue();
  const { work, letGo } = heldWork();
  const [served, leaving] = [new AbortController(), new AbortController()];
  let asked = false;
  const begun = queue.ask(work, { waitingMax: 1, signal: served.signal });
  const waiting = queue.ask(async () => (asked = true), { waitingMax: 1, signal: leaving.signal });
  leaving.abort();
  expect(await waiting).toEqual({ kind: 'gone' });
  expect(queue.waiting).toBe(0);
  served.abort();
  const next = queue.ask(async () => 'next', { waitingMax: 1, signal: patient() });
  expect(queue.waiting).toBe(1);
  letGo();
  expect(await begun).toEqual({ kind: 'done', result: undefined });
  expect(await next).toEqual({ kind: 'done', result: 'next' });
  expect(asked).toBe(false);
});

it('passes on errors of the work and continues', async () => {
  const queue = new ModelQueue();
  const fail = () => Promise.reject(new Error('broken'));
  await expect(queue.run(fail)).rejects.toThrow('broken');
  await expect(queue.ask(fail, { waitingMax: 1, signal: patient() })).rejects.toThrow('broken');
  expect(await queue.run(async () => 'next')).toBe('next');
});

it('runs the calls of a turn inside it, and other calls in their own turns', async () => {
  const queue = new ModelQueue();
  const order: string[] = [];
  const call = (name: string) => queue.call(async () => void order.push(name));
  const turn = queue.run(async () => {
    await call('first of the turn');
    await new Promise((resolve) => setImmediate(resolve));
    await call('second of the turn');
  });
  await Promise.all([turn, call('outside')]);
  expect(order).toEqual(['first of the turn', 'second of the turn', 'outside']);
});

it('waits for the calls of an abandoned turn before the next turn', async () => {
  const queue = new ModelQueue();
  const { work, letGo } = heldWork();
  const order: string[] = [];
  const givenUp = queue.run(async () => {
    void queue
      .call(work)
      .then(() => order.push('call'))
      .then(() => queue.call(async () => order.push('late call')));
    throw new Error('cancelled');
  });
  const next = queue.run(async () => order.push('next turn'));
  await expect(givenUp).rejects.toThrow('cancelled');
  letGo();
  await next;
  await queue.drained();
  expect(order).toEqual(['call', 'next turn', 'late call']);
});
