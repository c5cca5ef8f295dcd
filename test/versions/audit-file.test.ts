import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { beforeAll, expect, it } from 'vitest';
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import { entryName } from '../../versions/log/object-names.ts';
import { Versions } from '../../versions/versions.ts';
import { correction, LINEAGE, retraction } from '../harness/corrections.ts';
import { runBatch } from '../harness/test-lineage.ts';
import { FakeEngine } from '../harness/fake-engine.ts';
import { MemoryStore } from '../harness/memory-store.ts';

const ABOUT = { software: 'errata test', exportedAt: '2026-01-01T00:00:00.000Z', histories: false };

async function fileOf(versions: Versions, about = ABOUT): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const line of versions.audit(LINEAGE, about)) parts.push(line);
  return Buffer.concat(parts);
}

async function* linesOf(file: Buffer): AsyncIterable<Uint8Array> {
  let from = 0;
  for (let at = file.indexOf(0x0a); at !== -1; at = file.indexOf(0x0a, from)) {
    yield await Promise.resolve(file.subarray(from, at));
    from = at + 1;
  }
  if (from < file.length) yield file.subarray(from);
}

function check(versions: Versions, file: Buffer) {
  return versions.checkAudit(linesOf(file), () => ({
    sha256: createHash('sha256').update(file).digest('hex'),
    bytes: file.byteLength,
  }));
}

let store: MemoryStore;
let versions: Versions;
let file: Buffer;
beforeAll(async () => {
  store = new MemoryStore();
  versions = new Versions(store);
  const activities = {
    ...createEditActivities({ engine: new FakeEngine(), versions }),
    ...createLedgerActivities({ versions }),
  };
  const b = correction('b');
  for (const [i, revisions] of [
    [correction('a'), b],
    [correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }), retraction(b)],
    [correction('c')],
  ].entries())
    await (await runBatch(activities, String(i), revisions)).commit();
  await versions.log(LINEAGE).register();
  file = await fileOf(versions);
});

it('an audit file is whole, agrees with the log, and is the same whenever written', async () => {
  expect(await check(versions, file)).toMatchObject({
    lineage: LINEAGE,
    versions: 3,
    corrections: 2,
    findings: [],
    against: { log: true, newer: 0 },
  });
  expect(await fileOf(new Versions(store))).toEqual(file);
  const later = await fileOf(versions, { ...ABOUT, exportedAt: '2027-01-01T00:00:00.000Z' });
  const contents = (text: Buffer) =>
    text
      .toString()
      .split('\n')
      .slice(1, -2)
      .map((line) => (JSON.parse(line) as { content: unknown }).content);
  expect(contents(later)).toEqual(contents(file));
});

it('an audit file has every entry in its stored bytes', () => {
  const line = file
    .toString()
    .split('\n')
    .find((one) => one.includes(`"object":"${entryName(LINEAGE, 2)}"`))!;
  expect(line.slice('{"content":'.length, line.lastIndexOf(',"kind":"'))).toBe(
    Buffer.from(store.objects.get(entryName(LINEAGE, 2))!).toString(),
  );
});

it('an audit file can be checked where there is no such lineage', async () => {
  expect(await check(new Versions(new MemoryStore()), file)).toMatchObject({
    findings: [],
    against: { log: false },
    head: { version: 3 },
  });
});

it('an audit file shows any changed byte, without the log too', async () => {
  const elsewhere = new Versions(new MemoryStore());
  await fc.assert(
    fc.asyncProperty(
      fc.nat(file.length - 1),
      fc.integer({ min: 1, max: 255 }),
      async (at, change) => {
        const changed = Buffer.from(file);
        changed[at]! ^= change;
        expect((await check(elsewhere, changed)).findings.length, `byte ${at}`).toBeGreaterThan(0);
      },
    ),
    { numRuns: 200 },
  );
});

it('an audit file shows lines that are missing, moved, doubled or written anew', async () => {
  const lines = file.toString().split('\n').slice(0, -1);
  const findings = async (changed: string[]) =>
    (await check(versions, Buffer.from(`${changed.join('\n')}\n`))).findings.length;
  expect(await findings(lines.slice(0, -1))).toBeGreaterThan(0);
  expect(await findings(lines.slice(0, 5))).toBeGreaterThan(0);
  expect(await findings(lines.filter((_, i) => i !== 3))).toBeGreaterThan(0);
  expect(await findings([...lines, lines.at(-1)!])).toBeGreaterThan(0);
  expect(await findings([lines[0]!, lines[2]!, lines[1]!, ...lines.slice(3)])).toBeGreaterThan(0);
});

it('an audit file that was forged as a whole differs from the log', async () => {
  const other = new MemoryStore();
  const forged = new Versions(other);
  const activities = {
    ...createEditActivities({ engine: new FakeEngine(), versions: forged }),
    ...createLedgerActivities({ versions: forged }),
  };
  await (await runBatch(activities, '0', [correction('a', { target: 'Elsewhere' })])).commit();
  const forgedFile = await fileOf(forged);
  expect((await check(forged, forgedFile)).findings).toEqual([]);
  expect((await check(versions, forgedFile)).findings.map(({ problem }) => problem)).toContain(
    'the log has something else under this name',
  );
});

it('an audit file has the versions that existed when its export began', async () => {
  const busy = new MemoryStore();
  for (const [name, bytes] of store.objects) busy.objects.set(name, bytes);
  const writing = new Versions(busy);
  const activities = {
    ...createEditActivities({ engine: new FakeEngine(), versions: writing }),
    ...createLedgerActivities({ versions: writing }),
  };
  const lines = new Versions(busy).audit(LINEAGE, ABOUT)[Symbol.asyncIterator]();
  const parts = [(await lines.next()).value as Uint8Array];
  await (await runBatch(activities, 'meanwhile', [correction('d')])).commit();
  for (let next = await lines.next(); next.done !== true; next = await lines.next())
    parts.push(next.value);
  expect(await check(writing, Buffer.concat(parts))).toMatchObject({
    versions: 3,
    findings: [],
    against: { newer: 1 },
  });
});
