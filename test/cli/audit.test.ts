import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import { EXIT } from '../../cli/terminal/exit-code.ts';
import type { AskedDifference } from '../../serving/api/audit.ts';
import type { Blame } from '../../serving/answers/blame.ts';
import type { Trace } from '../../versions/audit/trace.ts';
import { versionsInFolder } from '../../versions/versions.ts';
import { correction, LINEAGE, retraction } from '../harness/corrections.ts';
import { runBatch } from '../harness/test-lineage.ts';
import { FakeEngine } from '../harness/fake-engine.ts';
import { servedLineage } from '../serving/served-lineage.ts';
import { testFolder } from '../harness/clean-up.ts';
import { invoke } from '../harness/invocation.ts';

let folder: string;
const closing: { close(): Promise<void> }[] = [];
const b = correction('b');
const BATCHES = [
  [correction('a', { source: 'who asked' }), b],
  [correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }), retraction(b)],
  [correction('c')],
];

beforeAll(async () => {
  folder = testFolder();
  const versions = versionsInFolder(join(folder, 'home', 'versions'));
  const activities = {
    ...createEditActivities({ engine: new FakeEngine(), versions }),
    ...createLedgerActivities({ versions }),
  };
  for (const [i, revisions] of BATCHES.entries())
    await (await runBatch(activities, String(i), revisions)).commit();
  const refused = {
    lineage: LINEAGE,
    revisionId: 'x',
    factKey: 'Subject x|{} is in',
    status: 'QUARANTINED' as const,
    version: null,
    reason: 'it has no effect',
    measured: { code: 'not-effective' },
    position: { topic: 't', partition: 0, offset: '3' },
    batchId: 'batch-9',
    decidedAt: 1,
  };
  await (await versions.log(LINEAGE).register()).settle([refused]);
});
afterEach(async () => {
  for (const one of closing.splice(0)) await one.close();
});

const errata = (args: string | string[], environment: NodeJS.ProcessEnv = {}) =>
  invoke(folder, args, { ERRATA_LINEAGES: LINEAGE, ...environment });
const json = async <Result>(args: string | string[], environment: NodeJS.ProcessEnv = {}) => {
  const { code, out, err } = await errata(
    typeof args === 'string' ? `${args} --json` : [...args, '--json'],
    environment,
  );
  expect(err).toBe('');
  return { code, result: JSON.parse(out) as Result };
};

/** A running `serve` with a fake model of the same corrections; commands find it by its address. */
async function serve(): Promise<{ ERRATA_SERVE_URL: string }> {
  const serving = await servedLineage({
    versions: versionsInFolder(join(folder, 'home', 'versions')),
  });
  closing.push(serving);
  await serving.start();
  return { ERRATA_SERVE_URL: await serving.server.listen({ host: '127.0.0.1', port: 0 }) };
}

test('`why` shows everything stored about a correction, with nothing running', async () => {
  const { code, result } = await json<{ about: string; traces: Trace[] }>('why a');
  expect(code).toBe(EXIT.ok);
  expect(result).toMatchObject({
    about: 'correction',
    traces: [{ id: 'a', state: 'left', correction: { source: 'who asked' } }],
  });
  const { out } = await errata('why a', {
    ERRATA_TEMPORAL_PAGE_URL: 'http://temporal.test/',
  });
  for (const part of [
    'superseded in version 2',
    'who asked',
    'topic errata.l.corrections, partition 0, offset',
    'edit-batch/l/1',
    'http://temporal.test/namespaces/errata/workflows/edit-batch%2Fl%2F1/run/history',
    'errata history 1',
    'a2',
  ])
    expect(out).toContain(part);
});

test('`why` reads its argument as an id or else a subject, and shows refusals', async () => {
  expect(
    (await json<{ about: string; traces: Trace[] }>(['why', 'Subject a'])).result,
  ).toMatchObject({ about: 'subject', traces: [{ id: 'a2' }, { id: 'a' }] });
  expect((await json(['why', 'Subject x'])).result).toMatchObject({
    about: 'subject',
    traces: [],
    refused: [{ revisionId: 'x' }],
  });
  expect((await errata('why x')).out).toContain('quarantined (not-effective): it has no effect');
});

test('`why` sends a prompt to a running serve', async () => {
  const running = await serve();
  const { result } = await json(['why', 'Subject a is in'], running);
  expect(result).toMatchObject({
    about: 'prompt',
    edited: { text: ' Oslo.' },
    corrections: [{ id: 'a2' }],
  });
  const { out } = await errata(['why', '--at', '1', 'Subject b is in'], running);
  expect(out).toContain('Gates that opened');
  expect((await errata(['why', 'Subject b is in'], running)).out).toMatch(
    /No gate opened[\s\S]+held from version 1, retracted in version 2/,
  );
});

test('`why` fails for an unknown id, and refuses contradicting flags', async () => {
  expect(await errata('why --correction nobody')).toMatchObject({
    code: EXIT.failure,
    err: expect.stringContaining('never decided') as string,
  });
  expect(await errata('why --subject nobody')).toMatchObject({ code: EXIT.failure });
  expect((await errata('why --subject --prompt x')).code).toBe(EXIT.usage);
  expect((await errata('why --at soon x')).code).toBe(EXIT.usage);
});

test('`diff` shows what differs, with nothing running', async () => {
  expect((await json<AskedDifference>('diff 1 3')).result).toMatchObject({
    added: [{ correctionId: 'c' }],
    superseded: [{ before: { target: 'Lyon' }, after: { target: 'Oslo' } }],
    retracted: [{ correctionId: 'b' }],
    asked: [],
  });
  const { out } = await errata('diff base head');
  expect(out).toMatch(/base model {2}→ {2}version 3 \(2 hold\)/);
  expect((await errata('diff 2 2')).out).toContain('The same corrections hold in both.');
  expect((await errata('diff 1 9')).code).toBe(EXIT.failure);
  expect((await errata('diff one')).code).toBe(EXIT.usage);
});

test('`diff` asks both versions the probes, or the prompts of a file', async () => {
  const running = await serve();
  writeFileSync(
    join(folder, 'prompts.ndjson'),
    'Subject a is in\n\n"Nobody is in"\n{"prompt":"Subject c is in"}\n',
  );
  expect(
    (await json<AskedDifference>('diff 1 3 --probes prompts.ndjson', running)).result.asked.map(
      ({ prompt, to }) => [prompt, to.startsWith(' base')],
    ),
  ).toEqual([
    ['Subject a is in', false],
    ['Nobody is in', true],
    ['Subject c is in', false],
  ]);
  expect(
    (await json<AskedDifference>('diff 2 3 --ask', running)).result.asked.map(
      ({ prompt }) => prompt,
    ),
  ).toContain('One finds Subject c in');
  writeFileSync(join(folder, 'bad.ndjson'), '{"question":"x"}\n');
  expect(await errata('diff 1 --probes bad.ndjson', running)).toMatchObject({
    code: EXIT.usage,
    err: expect.stringContaining('bad.ndjson:1') as string,
  });
});

test('`blame` shows which version changed each answer', async () => {
  const running = await serve();
  const { out } = await errata(['blame', 'Subject a is in', 'Nobody is in'], running);
  expect(out).toMatch(/v1 +"Lyon"[\s\S]+v2 +"Oslo"[\s\S]+1 of 2 answers changed/);
  const { result } = await json<Blame>('blame --max 40', running);
  expect(result.prompts.map(({ prompt }) => prompt)).toContain('Neighbour of c one is in');
  expect((await errata('blame --probes none.txt x', running)).code).toBe(EXIT.usage);
});

test('`export` writes a file that verify accepts, and overwrites only with --force', async () => {
  expect((await errata('export --audit --out audit.jsonl')).code).toBe(EXIT.ok);
  expect(readFileSync(join(folder, 'audit.jsonl.sha256'), 'utf8')).toMatch(
    /^[0-9a-f]{64} {2}audit\.jsonl\n$/,
  );
  expect((await json('verify --audit audit.jsonl')).result).toMatchObject({
    sound: true,
    versions: 3,
    against: { log: true, newer: 0 },
  });
  expect(await errata('export --audit --out audit.jsonl')).toMatchObject({
    code: EXIT.usage,
    err: expect.stringContaining('--force') as string,
  });
  expect((await errata('export --audit --out audit.jsonl --force')).code).toBe(EXIT.ok);
  const changed = readFileSync(join(folder, 'audit.jsonl'), 'utf8').replace('Oslo', 'Rome');
  writeFileSync(join(folder, 'changed.jsonl'), changed);
  expect(await errata('verify --audit changed.jsonl')).toMatchObject({
    code: EXIT.failure,
    out: expect.stringContaining('DAMAGED') as string,
  });
  expect((await errata('verify --audit nothing.jsonl')).code).toBe(EXIT.usage);
  expect((await errata('export')).code).toBe(EXIT.usage);
});

test('`export` writes to the standard output without --out', async () => {
  const { out } = await errata('export --audit');
  expect(
    out
      .split('\n')
      .slice(0, -1)
      .map((line) => (JSON.parse(line) as { kind: string }).kind),
  ).toEqual(expect.arrayContaining(['head', 'entry', 'probes', 'register', 'seal']));
});
