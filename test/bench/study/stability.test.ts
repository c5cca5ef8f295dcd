import { readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { batchEnds } from '../../../bench/edited-stream.ts';
import { KeptPoints } from '../../../bench/kept-points.ts';
import { stabilityOfStream, type StabilityQuestion } from '../../../bench/study/stability.ts';
import type { StreamResult } from '../../../bench/study/stability-report.ts';
import { stabilityReport } from '../../../bench/study/stability-report.ts';
import { readStream } from '../../../bench/study/study-records.ts';
import type { Keeping } from '../../../bench/study/study-run.ts';
import { testFolder } from '../../harness/clean-up.ts';
import { FakeEngine, MISBEHAVING } from '../../harness/fake-engine.ts';
import { collected, facts, writeFacts } from './facts.ts';

let folder: string;
beforeEach(() => {
  folder = testFolder();
});

async function question(
  over: Partial<StabilityQuestion> = {},
  targetOf?: (i: number) => string,
): Promise<StabilityQuestion> {
  const file = await writeFacts(path.join(folder, 'facts.json'), facts(24, targetOf));
  return {
    records: await readStream(file, [{ from: 0, to: 24 }]),
    unmeasured: [],
    batchSize: 4,
    marks: [1, 3],
    asking: { sampleMax: 100, earliestMax: 4 },
    circumstances: { model: 'fake' },
    ...over,
  };
}

const keeping = () => ({ points: new KeptPoints(folder), edited: () => {} });

/** The stream at its last mark. */
async function edited(
  engine: FakeEngine,
  asked: StabilityQuestion,
  kept: Keeping = keeping(),
): Promise<StreamResult> {
  return (await collected(stabilityOfStream(engine, asked, kept))).at(-1)!;
}

test('a stream is measured at the marks and at its end', async () => {
  const { points, batches } = await edited(new FakeEngine(), await question());
  expect(points.map(({ batches: at, corrections, sample }) => [at, corrections, sample])).toEqual([
    [1, 4, 4],
    [3, 12, 12],
    [6, 24, 24],
  ]);
  expect(
    points.every(
      ({ efficacy, neighboursUnchanged, earliest }) =>
        efficacy === 1 && neighboursUnchanged === 1 && earliest.efficacy === 1,
    ),
  ).toBe(true);
  expect(batches).toHaveLength(6);
});

test('a stream shows how its earliest corrections degrade', async () => {
  const { points } = await edited(
    new FakeEngine(),
    await question({}, (i) => (i === 20 ? MISBEHAVING.erasing : `answer${i}`)),
  );
  expect(points.map(({ earliest }) => earliest.efficacy)).toEqual([1, 1, 0]);
});

test('an interrupted stream resumes after its last batch with the same measures', async () => {
  const asked = await question();
  const whole = await edited(new FakeEngine(), asked, {
    ...keeping(),
    points: new KeptPoints(path.join(folder, 'whole')),
  });

  const first = new FakeEngine();
  let batches = 0;
  const stop = () => {
    if (++batches === 4) throw new Error('stopped');
  };
  await expect(edited(first, asked, { ...keeping(), edited: stop })).rejects.toThrow('stopped');
  const second = new FakeEngine();
  const resumed = await edited(second, asked);

  const searches = (engine: FakeEngine) =>
    engine.calls.filter((call) => call === 'computeTargets').length;
  expect(searches(first) + searches(second)).toBe(6);
  const measures = ({ points }: typeof whole) =>
    points.map(
      ({ residentBytes: _, secondsPerCorrection: __, secondsTargetsPerCorrection: ___, ...rest }) =>
        rest,
    );
  expect(measures(resumed)).toEqual(measures(whole));
  expect(resumed.batches.filter((batch) => batch.resumed)).toHaveLength(1);
});

test('a batch whose note was lost is found committed and is not edited again', async () => {
  const asked = await question();
  await edited(new FakeEngine(), asked);
  const [stream] = await readdir(path.join(folder, 'streams'));
  const notes = path.join(folder, 'streams', stream!, 'points');
  for (const name of await readdir(notes)) {
    const note = await readFile(path.join(notes, name), 'utf8');
    if (note.includes('"end":24')) await rm(path.join(notes, name));
  }

  const engine = new FakeEngine();
  const { batches, points } = await edited(engine, asked);
  expect(engine.calls).not.toContain('computeTargets');
  expect(batches).toHaveLength(6);
  expect(batches[5]!.seconds).toBeNull();
  expect(points.at(-1)!.corrections).toBe(24);
});

test('a finished study no longer runs the model', async () => {
  const asked = await question();
  await edited(new FakeEngine(), asked);
  const engine = new FakeEngine();
  await edited(engine, asked);
  expect(engine.calls).toEqual([]);
});

test('records that are edited without probes are not measured', async () => {
  const { points } = await edited(
    new FakeEngine(),
    await question({ unmeasured: [{ from: 2, to: 20 }] }),
  );
  expect(points.map(({ sample }) => sample)).toEqual([2, 2, 6]);
});

test('batches end at every mark', () => {
  expect(batchEnds(100, 30, [10, 30, 300])).toEqual([10, 30, 60, 90, 100]);
  expect(batchEnds(60, 30)).toEqual([30, 60]);
});

test('the report has plots and the numbers of every point', async () => {
  const byBatches = await edited(new FakeEngine(), await question());
  const bySize = byBatches.points.map((point, i) => ({ ...point, batchSize: [1, 5, 20][i]! }));
  const files = await stabilityReport({ byBatches, bySize, about: 'fake', circumstances: {} });
  const svg = files['stability-by-batches.svg'];
  expect(svg).toMatch(/^<svg/);
  for (const text of [
    'consecutive batches',
    'perplexity ratio',
    'seconds per correction',
    'efficacy, greedy decoding',
    'neighbours unchanged',
  ])
    expect(svg).toContain(text);
  expect(files['stability-by-batch-size.svg']).toContain('instances per batch');
  const csv = files['stability-by-batches.csv']!.trimEnd().split('\r\n');
  expect(csv).toHaveLength(4);
  expect(csv[3]).toMatch(/^4,6,24,24,0,1,1,/);
  expect(files['stability.md']).toContain('| 100.0');
});
