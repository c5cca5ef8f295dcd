/**
 * Whether an undo is one that can be asked for. By hand: the workflows' sandbox is spared a library
 * for five fields.
 */
import type { UndoOrder } from './contract.ts';

const ID = /^[a-z0-9][a-z0-9_-]{0,63}$/;
const REASON_CHARACTERS_MAX = 1_000;
const REQUESTED_BY_CHARACTERS_MAX = 200;
/** Of a correction or a retraction, whose id has the name of a topic in it. */
const CORRECTION_ID_CHARACTERS_MAX = 400;
const ALIAS_CHARACTERS_MAX = 32;

/**
 * What is wrong with the order, or null. It may come from anybody who may write to the namespace.
 */
export function undoFaultOf(order: UndoOrder): string | null {
  const { request, releaseAlias } = (order ?? {}) as Partial<UndoOrder>;
  if (typeof request !== 'object' || request === null) return 'it has no request';
  const { id, target, reason, requestedBy, requestedAt } = request;
  if (typeof id !== 'string' || !ID.test(id)) return `its id is not of the form ${ID.source}`;
  if (typeof reason !== 'string' || reason.length > REASON_CHARACTERS_MAX)
    return `its reason is no text of at most ${REASON_CHARACTERS_MAX} characters`;
  if (typeof requestedBy !== 'string' || requestedBy.length > REQUESTED_BY_CHARACTERS_MAX)
    return `who asks is no text of at most ${REQUESTED_BY_CHARACTERS_MAX} characters`;
  if (!isCount(requestedAt)) return 'its time is no count of milliseconds since 1970';
  if (
    releaseAlias !== null &&
    (typeof releaseAlias !== 'string' ||
      releaseAlias === '' ||
      releaseAlias.length > ALIAS_CHARACTERS_MAX)
  )
    return 'the alias to be released is no name';
  switch (target?.kind) {
    case 'version':
      return isCount(target.version) && target.version > 0
        ? null
        : 'a version is a whole number from 1';
    case 'rollback':
      return isCount(target.version) ? null : 'the version to go back to is a whole number from 0';
    case 'correction':
      return typeof target.id === 'string' &&
        target.id !== '' &&
        target.id.length <= CORRECTION_ID_CHARACTERS_MAX
        ? null
        : "a correction's id is a text";
    default:
      return 'it says neither version nor correction nor rollback';
  }
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
