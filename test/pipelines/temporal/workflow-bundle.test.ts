import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FAILURE_CONVERTER } from '../../../pipelines/temporal/payload-codec.ts';
import { bundleWorkflows } from '../../../pipelines/temporal/workflow-bundle.ts';

let folder: string;
let made: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'errata-bundle-'));
  writeFileSync(join(folder, 'of-earlier-sources.json'), 'old');
  made = (await bundleWorkflows(folder)).code;
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the cached workflow bundle', () => {
  const only = (): string => {
    const files = readdirSync(folder);
    expect(files).toHaveLength(1);
    return join(folder, files[0]!);
  };

  it('contains only the bundle, and replaces the one of earlier sources', () => {
    expect((JSON.parse(readFileSync(only(), 'utf8')) as { code: string }).code).toBe(made);
    expect(made).toContain('editBatch');
    // The worker reads the source map from the last line.
    expect(made.trimEnd().split('\n').at(-1)).toMatch(
      /^\/\/# sourceMappingURL=data:application\/json/,
    );
  });

  it('is reused by the next process', async () => {
    const file = only();
    const kept = readFileSync(file, 'utf8');
    const code = 'read from the folder';
    writeFileSync(
      file,
      JSON.stringify({ code, sha256: createHash('sha256').update(code).digest('hex') }),
    );
    expect((await bundleWorkflows(folder)).code).toBe(code);
    writeFileSync(file, kept);
  });

  it('is rebuilt if the file is damaged', async () => {
    const kept = readFileSync(only(), 'utf8');
    for (const damaged of [kept.slice(0, 1_000), kept.replace('editBatch', 'editbatch')]) {
      writeFileSync(only(), damaged);
      expect((await bundleWorkflows(folder)).code).toBe(made);
      expect(readFileSync(only(), 'utf8')).toBe(kept);
    }
  });

  it('is separate for encoded failures, and neither is mistaken for the other', async () => {
    const encoding = (await bundleWorkflows(folder, { failureConverterPath: FAILURE_CONVERTER }))
      .code;
    expect(encoding).toContain('encodeCommonAttributes: true');
    expect(made).not.toContain('encodeCommonAttributes: true');
    expect((await bundleWorkflows(folder, { failureConverterPath: FAILURE_CONVERTER })).code).toBe(
      encoding,
    );
    expect((await bundleWorkflows(folder)).code).toBe(made);
  });

  it('is not cached if the folder cannot be written', async () => {
    const file = join(folder, 'a-file');
    writeFileSync(file, '');
    expect((await bundleWorkflows(join(file, 'below'))).code).toBe(made);
    rmSync(file);
  });
});
