/** Held until `release`. */
export interface Exclusive {
  release(): Promise<void>;
}

/**
 * Takes the lock called `purpose`, waiting up to `waitMs` for whoever holds it. `onWait` is called
 * once if there is somebody to wait for. Throws `ExclusiveTimeout`.
 */
export function holdExclusively(
  purpose: string,
  waitMs: number,
  onWait?: () => void,
): Promise<Exclusive>;

/** The lock did not come free within its bound. */
export class ExclusiveTimeout extends Error {
  readonly purpose: string;
  readonly waitMs: number;
}
