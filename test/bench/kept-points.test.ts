import { beforeEach, expect, test } from 'vitest';
import { KeptPoints } from '../../bench/kept-points.ts';
import { testFolder } from '../harness/clean-up.ts';

let folder: string;
beforeEach(() => {
  folder = testFolder();
});

test('a point is measured once, whichever process needs it', async () => {
  let measured = 0;
  const work = async () => ({ share: 0.5, times: ++measured });
  expect(await new KeptPoints(folder).once({ study: 'a', mark: 1 }, work)).toEqual({
    share: 0.5,
    times: 1,
  });
  expect(await new KeptPoints(folder).once({ mark: 1, study: 'a' }, work)).toEqual({
    share: 0.5,
    times: 1,
  });
  expect(measured).toBe(1);
});

test('a stored answer is not used for another question', async () => {
  const points = new KeptPoints(folder);
  await points.once({ study: 'a', parameters: { lambda: 1 } }, async () => 1);
  expect(await points.once({ study: 'a', parameters: { lambda: 2 } }, async () => 2)).toBe(2);
  expect(await points.once({ study: 'a', parameters: { lambda: 1 } }, async () => 3)).toBe(1);
});

test('a failed measurement is not stored', async () => {
  const points = new KeptPoints(folder);
  await expect(
    points.once({ study: 'a' }, () => Promise.reject(new Error('stopped'))),
  ).rejects.toThrow('stopped');
  expect(await points.once({ study: 'a' }, async () => 2)).toBe(2);
});

test('a number that JSON cannot represent is refused instead of becoming null', async () => {
  await expect(
    new KeptPoints(folder).once({ study: 'a' }, async () => ({ ratio: Number.NaN })),
  ).rejects.toThrow(TypeError);
});
