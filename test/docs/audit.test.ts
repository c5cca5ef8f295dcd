import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { testFolder } from '../harness/clean-up.ts';
import { correction, LINEAGE, retraction } from '../harness/corrections.ts';
import { testLineage } from '../harness/test-lineage.ts';

const HAS_PYTHON = spawnSync('python3', ['--version']).status === 0;

/** The checker that docs/audit.md prints. */
const CHECKER = /```python\n([\s\S]+?)```/.exec(
  readFileSync(new URL('../../docs/audit.md', import.meta.url), 'utf8'),
)![1]!;

describe.skipIf(!HAS_PYTHON)('the checker in docs/audit.md', () => {
  let folder: string;
  let file: Buffer;
  let head: string;
  beforeAll(async () => {
    folder = testFolder();
    writeFileSync(join(folder, 'check.py'), CHECKER);
    const { commitBatch, log, versions } = testLineage();
    const b = correction('b', { source: 'naïve "quotes" \u2028 and 😀' });
    for (const [i, revisions] of [
      [correction('a'), b],
      [retraction(b)],
      [correction('c')],
    ].entries())
      await commitBatch(String(i), revisions);
    await log.register();
    const lines: Uint8Array[] = [];
    for await (const line of versions.audit(LINEAGE, {
      software: 'errata test',
      exportedAt: '2026-01-01T00:00:00.000Z',
      histories: true,
    }))
      lines.push(line);
    file = Buffer.concat(lines);
    head = (await log.read()).head.hash!;
  });

  const checked = (content: Buffer) => {
    writeFileSync(join(folder, 'audit.jsonl'), content);
    return spawnSync('python3', [join(folder, 'check.py'), join(folder, 'audit.jsonl')], {
      encoding: 'utf8',
    });
  };

  it('finds a whole file sound, with the same HEAD', () => {
    writeFileSync(join(folder, 'audit.jsonl'), file);
    expect(
      execFileSync('python3', [join(folder, 'check.py'), join(folder, 'audit.jsonl')], {
        encoding: 'utf8',
      }),
    ).toBe(`sound: 3 versions, ${file.toString().split('\n').length - 1} lines, HEAD ${head}\n`);
  });

  it('finds changed, missing and moved lines', () => {
    const lines = file.toString().split('\n').slice(0, -1);
    const joined = (parts: string[]) => Buffer.from(`${parts.join('\n')}\n`);
    expect(checked(Buffer.from(file.toString().replace('Lyon', 'Lyom'))).status).not.toBe(0);
    expect(checked(joined(lines.slice(0, -1))).stderr).toContain('the end is missing');
    expect(checked(joined(lines.filter((_, i) => i !== 4))).status).not.toBe(0);
    expect(
      checked(joined([...lines.slice(0, 5), lines[6]!, lines[5]!, ...lines.slice(7)])).status,
    ).not.toBe(0);
  });
});
