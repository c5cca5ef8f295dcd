/** What breaks in the version log: each class carries its facts and says what an operator may do. */

/** The store holds something the format forbids, or lacks something it demands. Never worth a retry. */
export class VersionLogDamaged extends Error {
  override readonly name = 'VersionLogDamaged';
  readonly hint =
    'Entries and blobs are never changed once written, so a copy of the object from a backup or a replica mends the log. Until then the last version before the damage can be served by its number.';
  constructor(
    readonly lineage: string,
    readonly objectName: string,
    what: string,
  ) {
    super(`Version log of lineage "${lineage}" is damaged at ${objectName}: ${what}`);
  }
}

/** An entry was to be appended that the format or the history forbids. The caller is wrong; a retry gives the same. */
export class EntryRefused extends Error {
  override readonly name = 'EntryRefused';
  readonly hint = 'The entry was built from an outdated or inconsistent plan; plan the batch again from HEAD.';
  constructor(
    readonly lineage: string,
    readonly version: number,
    readonly faults: string[],
  ) {
    super(`Version ${version} of lineage "${lineage}" was refused: ${faults.join('; ')}`);
  }
}

/** A blob that is named is not there. */
export class BlobMissing extends Error {
  override readonly name = 'BlobMissing';
  readonly hint = 'A staged blob is deleted when its batch is discarded: stage the update again. A blob of a committed version must come from a backup.';
  constructor(
    readonly lineage: string,
    readonly sha256: string,
  ) {
    super(`Blob ${sha256} of lineage "${lineage}" is not in the store`);
  }
}

/** A version was asked for that the log does not have. */
export class VersionUnknown extends Error {
  override readonly name = 'VersionUnknown';
  readonly hint = '`errata log` lists the versions there are.';
  constructor(
    readonly lineage: string,
    readonly version: number,
    readonly head: number,
  ) {
    super(`Lineage "${lineage}" has no version ${version}; HEAD is ${head}`);
  }
}

/** A name that is no object name: a mistake of the program, never of its data. */
export class ObjectNameInvalid extends Error {
  override readonly name = 'ObjectNameInvalid';
  readonly hint = 'Names are 1 to 8 segments of [a-z0-9][a-z0-9._-]* joined by "/".';
  constructor(readonly objectName: string) {
    super(`${JSON.stringify(objectName.slice(0, 200))} is not the name of an object`);
  }
}
