/** How an alias reads on a terminal. */
import type { AliasWord } from '../../schemas/alias.ts';
import { shortened } from '../terminal/output.ts';

const SHOWN_MAX = 80;

export function aliasInWords({ alias, version, reason, by, at }: AliasWord): string {
  return `${alias} ${version === null ? 'follows HEAD' : `is version ${version}`}, by ${shortened(by, SHOWN_MAX)} on ${new Date(at).toISOString()}: ${shortened(reason, SHOWN_MAX)}`;
}
