import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bundleWorkflows } from '../../pipelines/workflow-bundle.ts';

let folder: string;
let made: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'errata-bundle-'));
  writeFileSync(join(folder, 'of-earlier-sources.js'), 'old');
  made = (await bundleWorkflows(folder)).code;
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the kept bundle of the workflows', () => {
  const only = (): string => {
    const files = readdirSync(folder);
    expect(files).toHaveLength(1);
    return join(folder, files[0]!);
  };

  it('holds the workflows, and replaces that of earlier sources', () => {
    const kept = readFileSync(only(), 'utf8');
    expect(kept.startsWith(made)).toBe(true);
    expect(made).toContain('editBatch');
    expect(made).toContain('lineage');
  });

  it('is what the next process uses', async () => {
    const file = only();
    const kept = readFileSync(file, 'utf8');
    const marked = kept.replace(made, `${made}\n// read from the folder`);
    writeFileSync(file, marked);
    expect((await bundleWorkflows(folder)).code).toBe(marked);
    writeFileSync(file, kept);
  });

  it('is made again where the file was cut short', async () => {
    writeFileSync(only(), made.slice(0, 1_000));
    expect((await bundleWorkflows(folder)).code).toBe(made);
    expect(readFileSync(only(), 'utf8').startsWith(made)).toBe(true);
  });

  it('is done without where the folder cannot be written', async () => {
    const file = join(folder, 'a-file');
    writeFileSync(file, '');
    expect((await bundleWorkflows(join(file, 'below'))).code).toBe(made);
    rmSync(file);
  });
});
