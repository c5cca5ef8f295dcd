/** How an undo reads on a terminal. */
import type { UndoTarget } from '../../schemas/undo.ts';

/** "revert of version 12 (asked by ada)". */
export function undoInWords({
  target,
  requestedBy,
}: {
  target: UndoTarget;
  requestedBy: string;
}): string {
  return `${targetInWords(target)}${requestedBy === '' ? '' : ` (asked by ${requestedBy})`}`;
}

function targetInWords(target: UndoTarget): string {
  switch (target.kind) {
    case 'version':
      return `revert of version ${target.version}`;
    case 'correction':
      return `revert of ${target.id}`;
    case 'rollback':
      return `rollback to version ${target.version}`;
  }
}
