/** How an alias reads on a terminal. */
import type { AliasRecord } from '../../schemas/alias.ts';
import { shortened } from '../terminal/output.ts';

const SHOWN_MAX = 80;

export function aliasInWords({ alias, version, reason, by, at }: AliasRecord): string {
  return `${alias} ${version === null ? 'follows HEAD' : `is version ${version}`}, by ${shortened(by, SHOWN_MAX)} on ${new Date(at).toISOString()}: ${shortened(reason, SHOWN_MAX)}`;
}
