/**
 * What is said of two corrections of one time that answer one fact differently: neither is
 * believed, whichever came first.
 */
import type { Outcome } from './editing.ts';

/**
 * The time is noted, since what comes later with the same one is no better
 * (`versions/log/register.ts`).
 */
export function contradictionMeasured(issuedAt: number, others: number): Outcome['measured'] {
  return { code: 'contradiction', others, issuedAt };
}

/** For a correction that takes a committed one out with it. */
export const CONTRADICTS_A_COMMITTED_ONE =
  'issued at the same time as a committed correction that says otherwise of the same fact; that one is taken out as well';

export function contradictionReason(others: readonly { id: string; target: string }[]): string {
  const named = others.slice(0, 3).map(({ id, target }) => `${id} ("${target}")`);
  return `issued at the same time as ${named.join(', ')}, which says otherwise of the same fact`;
}
