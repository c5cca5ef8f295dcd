/** Where versions are, and whether they can be read and written there, found out by trying. */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { StoreRefused, StoreUnavailable, StoreUnfit } from '../../../versions/stores/failures.ts';
import { ConfigurationError, type Configuration } from '../../config/configuration.ts';
import { openBucket } from '../../config/open-versions.ts';

export interface VersionsFinding {
  where: string;
  /** `low`: it can be read and not written, which is enough for looking and for `serve`. */
  state: 'ok' | 'low' | 'missing';
  found: string;
  /** What to do; empty where there is nothing to do. */
  mend: string;
}

/**
 * Leaves nothing behind but, in a bucket that versions were never written to, the object that its
 * server is put to the proof with.
 */
export async function examineVersions({
  versions,
}: Pick<Configuration, 'versions'>): Promise<VersionsFinding> {
  return versions.kind === 'folder'
    ? await examineFolder(versions.folder)
    : await examineBucket(versions);
}

async function examineFolder(folder: string): Promise<VersionsFinding> {
  const may = (mode: number) =>
    access(folder, mode).then(
      () => true,
      () => false,
    );
  if (!(await may(constants.F_OK)))
    return { where: folder, state: 'ok', found: 'a folder that the first version makes', mend: '' };
  if (!(await may(constants.R_OK | constants.X_OK)))
    return {
      where: folder,
      state: 'missing',
      found: 'a folder that may not be read',
      mend: 'Give this user the right to read it, or set ERRATA_VERSIONS.',
    };
  if (!(await may(constants.W_OK)))
    return {
      where: folder,
      state: 'low',
      found: 'a folder that can be read and not written',
      mend: 'Only edit-worker and workflow-worker must write to it.',
    };
  return { where: folder, state: 'ok', found: 'a folder that can be read and written', mend: '' };
}

async function examineBucket(
  versions: Extract<Configuration['versions'], { kind: 's3' }>,
): Promise<VersionsFinding> {
  let where = `s3://${versions.bucket}`;
  try {
    const store = openBucket(versions);
    where = store.where;
    await store.checkReadable();
    try {
      await store.provePutIfAbsent();
    } catch (fault) {
      if (!(fault instanceof StoreRefused && fault.facts['status'] === 403)) throw fault;
      return {
        where,
        state: 'low',
        found: 'it answers and can be read and not written',
        mend: 'Only edit-worker and workflow-worker must write to it; docs/security.md lists the rights.',
      };
    }
    return {
      where,
      state: 'ok',
      found: 'it answers, can be read and written, and refuses a second put of one name',
      mend: '',
    };
  } catch (fault) {
    if (
      fault instanceof StoreUnavailable ||
      fault instanceof StoreRefused ||
      fault instanceof StoreUnfit ||
      fault instanceof ConfigurationError
    )
      return { where, state: 'missing', found: fault.message, mend: fault.hint };
    throw fault;
  }
}
