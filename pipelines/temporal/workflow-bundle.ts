import { DefaultLogger, bundleWorkflowCode } from '@temporalio/worker';
import type { DataConverter } from '@temporalio/common';
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Bundles the workflows as one script for their sandbox. That takes a second or two, so the bundle
 * is kept in `folder`, if one is given, under a hash of its sources. The workflows use the worker's
 * failure converter, if it has one.
 */
export async function bundleWorkflows(
  folder: string | null = null,
  { failureConverterPath }: Pick<DataConverter, 'failureConverterPath'> = {},
): Promise<{ code: string }> {
  if (folder === null) return bundle(failureConverterPath);
  const name = `${await identityOfSources(failureConverterPath)}.json`;
  const kept = await readKept(join(folder, name));
  if (kept !== null) return kept;
  const made = await bundle(failureConverterPath);
  await keep(folder, name, made);
  return made;
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Folders that the workflows may import from, according to the project's import rules. */
const SOURCES = ['pipelines', 'schemas'];

/** Reads a kept bundle; null if its hash differs, since a power cut can truncate a file. */
async function readKept(file: string): Promise<{ code: string } | null> {
  try {
    const { code, sha256 } = JSON.parse(await readFile(file, 'utf8')) as Record<string, string>;
    return code !== undefined && sha256Of(code) === sha256 ? { code } : null;
  } catch {
    return null;
  }
}

async function bundle(failureConverterPath: string | undefined): Promise<{ code: string }> {
  const { code } = await bundleWorkflowCode({
    ...(failureConverterPath === undefined ? {} : { failureConverterPath }),
    workflowsPath: fileURLToPath(new URL('../workflows/index.ts', import.meta.url)),
    logger: new DefaultLogger('WARN'),
  });
  return { code };
}

/**
 * Returns the SHA-256, hexadecimal, of the sources' names and contents and of every package's
 * version. Paths are included because the bundle contains them.
 */
async function identityOfSources(failureConverterPath: string | undefined): Promise<string> {
  const names: string[] = [];
  for (const source of SOURCES)
    for (const name of await readdir(join(ROOT, source), { recursive: true }))
      if (/\.(ts|cjs)$/.test(name)) names.push(join(source, name));
  const hash = createHash('sha256').update(
    JSON.stringify([ROOT, process.versions.node, failureConverterPath ?? null]),
  );
  for (const name of ['package-lock.json', ...names.sort()])
    hash.update(`\n${name}\n`).update(await readFile(join(ROOT, name)));
  return hash.digest('hex');
}

/** Writes the bundle, and deletes those of earlier sources. */
async function keep(folder: string, name: string, { code }: { code: string }): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    const partial = join(folder, `${name}.${process.pid}.partial`);
    await writeFile(partial, JSON.stringify({ sha256: sha256Of(code), code }));
    await rename(partial, join(folder, name));
    for (const other of await readdir(folder))
      if (other.endsWith('.json') && other !== name) await rm(join(folder, other), { force: true });
  } catch {
    // The bundle is then made again next time.
  }
}

function sha256Of(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
