/** How what an operator asked reads on a terminal. */
import type { AliasWord } from '../schemas/alias.ts';
import type { UndoTarget } from '../schemas/undo.ts';
import { shortened } from './output.ts';

const SHOWN_MAX = 80;

export function undoneInWords(target: UndoTarget): string {
  switch (target.kind) {
    case 'version':
      return `version ${target.version}`;
    case 'correction':
      return `correction ${shortened(target.id, SHOWN_MAX)}`;
    case 'rollback':
      return `all since version ${target.version}`;
  }
}

export function aliasInWords({ alias, version, reason, by, at }: AliasWord): string {
  return `${alias} ${version === null ? 'follows HEAD' : `is version ${version}`}, by ${shortened(by, SHOWN_MAX)} on ${new Date(at).toISOString()}: ${shortened(reason, SHOWN_MAX)}`;
}
