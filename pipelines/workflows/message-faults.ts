/**
 * Checks the messages of a lineage workflow, which anybody with write access to the namespace may
 * send. Written by hand, to keep a validation library for a few fields out of the sandbox.
 */
import { topicsOf } from '../kafka/topics.ts';
import {
  CHUNK_BYTES_MAX,
  CHUNK_REVISIONS_MAX,
  type RevisionChunk,
  type UndoOrder,
} from './contract.ts';

/** Names the fault of a chunk of `bytes` bytes, or null. */
export function chunkFaultOf(lineage: string, chunk: RevisionChunk, bytes: number): string | null {
  const { topic, partition, revisions } = chunk;
  const count = revisions.length;
  if (topic !== topicsOf(lineage).corrections)
    return `records of ${topic} do not belong to this lineage`;
  if (count > CHUNK_REVISIONS_MAX)
    return `${count} revisions in one chunk, at most ${CHUNK_REVISIONS_MAX} are allowed`;
  if (bytes > CHUNK_BYTES_MAX && count > 1)
    return `${bytes} bytes in one chunk, at most ${CHUNK_BYTES_MAX} are allowed`;
  let previous = BigInt(chunk.firstOffset) - 1n;
  for (const { position } of revisions) {
    const offset = BigInt(position.offset);
    if (position.topic !== topic || position.partition !== partition)
      return `offset ${position.offset} is of another partition`;
    if (offset <= previous || offset > BigInt(chunk.throughOffset))
      return `offset ${position.offset} is out of order`;
    previous = offset;
  }
  return null;
}

const ID = /^[a-z0-9][a-z0-9_-]{0,63}$/;
const REASON_CHARACTERS_MAX = 1_000;
const REQUESTED_BY_CHARACTERS_MAX = 200;
/** Longest id of a correction or a retraction; a retraction's contains the name of a topic. */
const CORRECTION_ID_CHARACTERS_MAX = 400;
const ALIAS_CHARACTERS_MAX = 32;

/** Names the fault of an undo, or null. */
export function undoFaultOf(order: UndoOrder): string | null {
  const { request, releaseAlias } = (order ?? {}) as Partial<UndoOrder>;
  if (typeof request !== 'object' || request === null) return 'it has no request';
  const { id, target, reason, requestedBy, requestedAt } = request;
  if (typeof id !== 'string' || !ID.test(id)) return `its id is not of the form ${ID.source}`;
  if (!isText(reason, 0, REASON_CHARACTERS_MAX))
    return `its reason is not a text of at most ${REASON_CHARACTERS_MAX} characters`;
  if (!isText(requestedBy, 0, REQUESTED_BY_CHARACTERS_MAX))
    return `requestedBy is not a text of at most ${REQUESTED_BY_CHARACTERS_MAX} characters`;
  if (!isCount(requestedAt)) return 'its time is not a count of milliseconds since 1970';
  if (releaseAlias !== null && !isText(releaseAlias, 1, ALIAS_CHARACTERS_MAX))
    return 'the alias to be released is not a name';
  switch (target?.kind) {
    case 'version':
      if (isCount(target.version) && target.version > 0) return null;
      return 'a version is a whole number from 1';
    case 'rollback':
      if (isCount(target.version)) return null;
      return 'the version to go back to is a whole number from 0';
    case 'correction':
      return isText(target.id, 1, CORRECTION_ID_CHARACTERS_MAX)
        ? null
        : "a correction's id is a text";
    default:
      return 'it names neither a version nor a correction nor a rollback';
  }
}

function isText(value: unknown, charactersMin: number, charactersMax: number): boolean {
  return (
    typeof value === 'string' && value.length >= charactersMin && value.length <= charactersMax
  );
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
