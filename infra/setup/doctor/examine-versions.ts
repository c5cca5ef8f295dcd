/** Checks by trial whether the version log can be read and written at its location. */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { StoreRefused, StoreUnavailable, StoreUnfit } from '../../../versions/stores/failures.ts';
import { ConfigurationError, type Configuration } from '../../config/configuration.ts';
import { openBucket } from '../../config/open-versions.ts';

export interface VersionsFinding {
  where: string;
  /** `low`: read-only, which is enough for `serve` and for read-only commands. */
  state: 'ok' | 'low' | 'missing';
  found: string;
  /** The remedy; empty if none is needed. */
  mend: string;
}

const WRITERS = 'Only edit-worker and workflow-worker must write to it.';

/** Leaves nothing behind, except a test object in a bucket without versions. */
export async function examineVersions({
  versions,
}: Pick<Configuration, 'versions'>): Promise<VersionsFinding> {
  return versions.kind === 'folder'
    ? { where: versions.folder, ...(await examineFolder(versions.folder)) }
    : await examineBucket(versions);
}

async function examineFolder(folder: string): Promise<Omit<VersionsFinding, 'where'>> {
  const may = (mode: number) =>
    access(folder, mode).then(
      () => true,
      () => false,
    );
  if (!(await may(constants.F_OK)))
    return { state: 'ok', found: 'a folder that the first version creates', mend: '' };
  if (!(await may(constants.R_OK | constants.X_OK)))
    return {
      state: 'missing',
      found: 'a folder that cannot be read',
      mend: 'Give this user the right to read it, or set ERRATA_VERSIONS.',
    };
  if (!(await may(constants.W_OK)))
    return { state: 'low', found: 'a folder that can be read but not written', mend: WRITERS };
  return { state: 'ok', found: 'a folder that can be read and written', mend: '' };
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
      const mend = `${WRITERS} docs/security.md lists the rights.`;
      return { where, state: 'low', found: 'a bucket that can be read but not written', mend };
    }
    const found = 'a bucket that can be read and written, and refuses a second put of a name';
    return { where, state: 'ok', found, mend: '' };
  } catch (fault) {
    const classes = [StoreUnavailable, StoreRefused, StoreUnfit, ConfigurationError];
    if (!classes.some((one) => fault instanceof one)) throw fault;
    const { message, hint } = fault as StoreUnfit;
    return { where, state: 'missing', found: message, mend: hint };
  }
}
