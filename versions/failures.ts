/** What breaks in the version log. Which of these are worth a retry says schemas/failures.ts. */
import { ErrataFailure } from '../schemas/failures.ts';

/** The store holds something the format forbids, or lacks something it demands. */
export class VersionLogDamaged extends ErrataFailure {
  override readonly name = 'VersionLogDamaged';
  constructor(lineage: string, objectName: string, what: string) {
    super(
      `Version log of lineage "${lineage}" is damaged at ${objectName}: ${what}`,
      { lineage, objectName, what },
      'Objects are never changed once written, so a copy from a backup or a replica mends the log.',
    );
  }
}

/** An entry was to be appended that the format or the history forbids. */
export class EntryRefused extends ErrataFailure {
  override readonly name = 'EntryRefused';
  constructor(lineage: string, version: number, faults: string[]) {
    super(
      `Version ${version} of lineage "${lineage}" was refused: ${faults.join('; ')}`,
      { lineage, version, faults },
      'The entry was built from an outdated or inconsistent plan; plan the batch again from HEAD.',
    );
  }
}

/** A blob that is named is not there. */
export class BlobMissing extends ErrataFailure {
  override readonly name = 'BlobMissing';
  constructor(lineage: string, hash: string) {
    super(
      `Blob ${hash} of lineage "${lineage}" is not in the store`,
      { lineage, sha256: hash },
      'A blob of a committed version must come from a backup.',
    );
  }
}

/** What a batch staged was discarded, by an earlier run of it that has ended. */
export class StagingGone extends ErrataFailure {
  override readonly name = 'StagingGone';
  constructor(lineage: string, batchId: string) {
    super(`What batch "${batchId}" of lineage "${lineage}" staged is gone`, { lineage, batchId }, 'Plan the batch again: what it needs is computed anew.');
  }
}

/** A version was asked for that the log does not have. */
export class VersionUnknown extends ErrataFailure {
  override readonly name = 'VersionUnknown';
  constructor(
    lineage: string,
    readonly version: number,
    readonly head: number,
  ) {
    super(`Lineage "${lineage}" has no version ${version}; HEAD is ${head}`, { lineage, version, head }, '`errata log` lists the versions there are.');
  }
}

/** A name that is no object name: a mistake of the program, never of its data. */
export class ObjectNameInvalid extends ErrataFailure {
  override readonly name = 'ObjectNameInvalid';
  constructor(objectName: string) {
    super(`${JSON.stringify(objectName.slice(0, 200))} is not the name of an object`, { objectName: objectName.slice(0, 200) }, 'Names are 1 to 8 segments of [a-z0-9][a-z0-9._-]* joined by "/".');
  }
}

/** A lineage's versions were made for another model than the one at hand. Retried, since the operator can mend it. */
export class BaseChanged extends ErrataFailure {
  override readonly name = 'BaseChanged';
  constructor(lineage: string, version: number, differences: string[]) {
    super(
      `Version ${version} of lineage "${lineage}" was made with another model: ${differences.join('; ')}`,
      { lineage, version, differences },
      'Give the model and the hyper-parameters back that the version names, or take a new lineage for the new ones.',
    );
  }
}
