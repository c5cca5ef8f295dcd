export interface Exclusive {
  release(): Promise<void>;
}

/**
 * Takes the lock named `purpose`, waiting up to `waitMs` for another holder. Calls `onWait` once if
 * it has to wait. Throws `ExclusiveTimeout`.
 */
export function holdExclusively(
  purpose: string,
  waitMs: number,
  onWait?: () => void,
): Promise<Exclusive>;

/** The lock was not released in time. */
export class ExclusiveTimeout extends Error {
  readonly purpose: string;
  readonly waitMs: number;
}
