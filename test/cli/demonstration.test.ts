import { expect, test } from 'vitest';
import { checksOf } from '../../cli/demonstration/checks.ts';
import type { CorrectionResult, DemonstrationReport } from '../../cli/demonstration/report.ts';
import { demonstrationStream } from '../../cli/demonstration/stream.ts';
import type { RecordOutcome } from '../../cli/session/outcome-watch.ts';
import { factKeyOf, type FactCorrection } from '../../schemas/correction.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';

const stream = demonstrationStream('default', 1, 1_000);

test('the stream has at least 40 sound corrections with probes', () => {
  expect(stream.corrections.length).toBeGreaterThanOrEqual(40);
  for (const correction of stream.corrections) {
    expect(faultsOf(correction), correction.id).toEqual([]);
    expect(correction.paraphrases, correction.id).toHaveLength(2);
    expect(correction.neighbourhood, correction.id).toHaveLength(2);
  }
});

test('the stream names the subject inside every paraphrase and in no neighbour', () => {
  for (const { id, subject, prompt, paraphrases, neighbourhood } of stream.corrections) {
    expect(
      paraphrases.every((text) => text.includes(subject)),
      id,
    ).toBe(true);
    expect(
      neighbourhood.every((text) => !text.includes(subject)),
      id,
    ).toBe(true);
    for (const text of [prompt, ...paraphrases]) expect(text.startsWith(subject), id).toBe(false);
  }
});

test('the stream has each id and each fact once', () => {
  expect(new Set(stream.corrections.map(({ id }) => id)).size).toBe(stream.corrections.length);
  expect(new Set(stream.corrections.map(factKeyOf)).size).toBe(stream.corrections.length);
});

test('the stream supersedes, retracts, repeats a subject, and contains bad records', () => {
  const subjects = stream.corrections.map(({ subject }) => subject);
  expect(subjects.length - new Set(subjects).size).toBe(1);
  const superseded = stream.corrections.find(({ id }) => id === stream.superseding.supersedes)!;
  expect(factKeyOf(stream.superseding.correction)).toBe(factKeyOf(superseded));
  expect(stream.superseding.correction.target).not.toBe(superseded.target);
  expect(stream.superseding.correction.issuedAt).toBeGreaterThan(superseded.issuedAt);
  expect(stream.corrections.map(factKeyOf)).toContain(stream.retraction.factKey);
  for (const { record, what } of stream.malformed)
    if (record.kind === 'unsound') expect(faultsOf(record.correction), what).not.toEqual([]);
  expect(stream.malformed.filter(({ record }) => record.kind === 'bytes').length).toBeGreaterThan(
    0,
  );
  expect(faultsOf(stream.tooLong)).toEqual([]);
});

test('the source of every correction says whether it is real or invented', () => {
  for (const { id, source } of stream.corrections)
    expect(source, id).toMatch(/^demonstration; (real|invented)/);
});

test('the stream has new ids in another run, and the same facts', () => {
  const second = demonstrationStream('default', 2, 2_000);
  expect(second.corrections.map(factKeyOf)).toEqual(stream.corrections.map(factKeyOf));
  expect(second.corrections.some(({ id }) => stream.corrections.some((one) => one.id === id))).toBe(
    false,
  );
});

test('the checks pass when every result is right', () => {
  expect(
    checksOf(report(), { fate: outcome('RETRACTED'), baseAnswer: ' before' }).filter(
      (check) => !check.passed,
    ),
  ).toEqual([]);
});

test.each<[string, (report: Report) => void]>([
  ['a correction was quarantined', (broken) => (broken.results[0]!.fate = outcome('QUARANTINED'))],
  ['a malformed record was taken', (broken) => (broken.malformed[0]!.fate = outcome('COMMITTED'))],
  ['the target that is too long was taken', (broken) => (broken.tooLong = outcome('COMMITTED'))],
  [
    'the superseded answer is still given',
    (broken) => (broken.results.find((result) => result.replaced === 'superseded')!.holds = true),
  ],
  ['the later answer is not given', (broken) => (broken.results.at(-1)!.holds = false)],
  [
    'the retracted answer is still given',
    (broken) =>
      (broken.results.find((result) => result.replaced === 'retracted')!.atTheEnd = 'French'),
  ],
  [
    'many corrections are lost at the end',
    (broken) => broken.results.slice(0, 10).forEach((result) => (result.holds = false)),
  ],
  [
    'neighbours changed',
    (broken) =>
      broken.results.forEach((result) => (result.probe!.neighbours[0]!.unchanged = false)),
  ],
  [
    'no paraphrase holds',
    (broken) =>
      broken.results.forEach((result) =>
        result.probe!.paraphrases.forEach((probe) => (probe.holds = false)),
      ),
  ],
  ['nothing was probed', (broken) => broken.results.forEach((result) => (result.probe = null))],
])('the checks fail when %s', (_, breakIt) => {
  const broken = report();
  breakIt(broken);
  expect(
    checksOf(broken, { fate: outcome('RETRACTED'), baseAnswer: ' before' }).every(
      (check) => check.passed,
    ),
  ).toBe(false);
});

test('the checks fail when there was nothing to retract', () => {
  expect(
    checksOf(report(), { fate: outcome('NOTHING_TO_RETRACT'), baseAnswer: ' before' }).every(
      (check) => check.passed,
    ),
  ).toBe(false);
});

type Report = Omit<DemonstrationReport, 'checks' | 'passed'>;

function report(): Report {
  return {
    lineage: 'default',
    results: [...stream.corrections, stream.superseding.correction].map(resultOf),
    tooLong: outcome('QUARANTINED'),
    malformed: stream.malformed.map(({ what }) => ({
      what,
      fate: { kind: 'dead-letter', className: 'UndecodableRecord', message: what },
    })),
    head: 8,
    seconds: 1,
  };
}

function resultOf(correction: FactCorrection): CorrectionResult {
  const replaced =
    correction.id === stream.superseding.supersedes
      ? 'superseded'
      : correction.id === stream.retraction.correction.id
        ? 'retracted'
        : null;
  return {
    correction,
    fate: outcome('COMMITTED'),
    version: 1,
    probe: {
      id: correction.id,
      answerBefore: 'before',
      answerAfter: correction.target,
      targetLogProbability: -0.1,
      effective: true,
      paraphrases: correction.paraphrases.map((prompt) => ({
        prompt,
        answerBefore: 'before',
        answerAfter: correction.target,
        holds: true,
      })),
      neighbours: correction.neighbourhood.map((prompt) => ({
        prompt,
        answerBefore: 'same',
        answerAfter: 'same',
        unchanged: true,
      })),
    },
    atTheEnd: replaced === 'retracted' ? ' before' : ` ${correction.target}`,
    holds: replaced === null,
    replaced,
  };
}

function outcome(
  status: 'COMMITTED' | 'QUARANTINED' | 'RETRACTED' | 'NOTHING_TO_RETRACT',
): RecordOutcome {
  return {
    kind: 'outcome',
    outcome: {
      lineage: 'default',
      revisionId: 'id',
      factKey: 'key',
      status,
      version: status === 'QUARANTINED' ? null : 1,
      reason: null,
      measured: {},
      position: { topic: 't', partition: 0, offset: '0' },
      batchId: 'b',
      decidedAt: 0,
    },
  };
}
