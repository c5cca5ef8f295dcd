/** How outcomes word a contradiction: answers to one fact at one time differ, so neither holds. */
import type { Outcome } from './editing.ts';

/** Includes the time, as a later correction of the same time would contradict as well. */
export function contradictionMeasured(issuedAt: number, others: number): Outcome['measured'] {
  return { code: 'contradiction', others, issuedAt };
}

/** The reason of a correction that removes a committed one. */
export const CONTRADICTS_A_COMMITTED_ONE =
  'issued at the same time as a committed correction that says otherwise of the same fact; ' +
  'that one is taken out as well';

export function contradictionReason(others: readonly { id: string; target: string }[]): string {
  const named = others.slice(0, 3).map(({ id, target }) => `${id} ("${target}")`);
  return `issued at the same time as ${named.join(', ')}, which says otherwise of the same fact`;
}
