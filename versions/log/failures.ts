/** Failures of the version log. schemas/failures.ts lists those worth a retry. */
import { ErrataFailure } from '../../schemas/failures.ts';

/** The store holds an object that the format forbids, or lacks one that it requires. */
export class VersionLogDamaged extends ErrataFailure {
  override readonly name = 'VersionLogDamaged';
  constructor(lineage: string, objectName: string, what: string) {
    super(
      `Version log of lineage "${lineage}" is damaged at ${objectName}: ${what}`,
      { lineage, objectName, what },
      'Objects never change once written: restore this one from a backup or a replica.',
    );
  }
}

/** The format or the history forbids the entry to be appended. */
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

export class BlobMissing extends ErrataFailure {
  override readonly name = 'BlobMissing';
  constructor(lineage: string, hash: string) {
    super(
      `Blob ${hash} of lineage "${lineage}" is not in the store`,
      { lineage, sha256: hash },
      'Restore a blob of a committed version from a backup.',
    );
  }
}

/** An earlier run of the batch has ended and discarded its staged blobs. */
export class StagingGone extends ErrataFailure {
  override readonly name = 'StagingGone';
  constructor(lineage: string, batchId: string) {
    super(
      `What batch "${batchId}" of lineage "${lineage}" staged is gone`,
      { lineage, batchId },
      'Plan the batch again; everything is computed anew.',
    );
  }
}

export class VersionUnknown extends ErrataFailure {
  override readonly name = 'VersionUnknown';
  constructor(
    lineage: string,
    readonly version: number,
    readonly head: number,
  ) {
    super(
      `Lineage "${lineage}" has no version ${version}; HEAD is ${head}`,
      { lineage, version, head },
      '`errata log` lists the versions.',
    );
  }
}

/** The versions were made with another model. Retried, since an operator can fix it. */
export class BaseChanged extends ErrataFailure {
  override readonly name = 'BaseChanged';
  constructor(lineage: string, version: number, differences: string[]) {
    super(
      `Version ${version} of lineage "${lineage}" was made with another model: ` +
        differences.join('; '),
      { lineage, version, differences },
      'Restore the model and the hyper-parameters that the version names, or use a new lineage.',
    );
  }
}
