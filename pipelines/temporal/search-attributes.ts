/**
 * The search attributes by which Temporal finds our workflows. An unregistered attribute would
 * block a workflow permanently, so all are checked before use.
 */
import type { ConnectionLike } from '@temporalio/client';
import proto from '@temporalio/proto';
import { messageOf } from '../../schemas/failures.ts';
import { SEARCH_ATTRIBUTES } from '../workflows/contract.ts';

export interface Registration {
  /** Whether all are registered with the right types. */
  usable: boolean;
  missing: string[];
  /** Names that are registered with another type. */
  mistyped: string[];
  /** The reason that adding the missing ones failed, if that was tried. */
  reason: string | null;
}

const CALL_WAIT_MS = 10_000;
/** The longest wait until a new attribute is listed. */
const EFFECT_WAIT_MS = 10_000;
const EFFECT_LOOK_MS = 100;

const { IndexedValueType } = proto.temporal.api.enums.v1;
const TYPES: Record<string, number> = Object.fromEntries(
  Object.entries(SEARCH_ATTRIBUTES).map(([name, type]) => [
    name,
    IndexedValueType[`INDEXED_VALUE_TYPE_${type}`],
  ]),
);

/** Returns the state of the registration. Throws the client's errors. */
export async function searchAttributesOf(
  connection: ConnectionLike,
  namespace: string,
  waitMs = CALL_WAIT_MS,
): Promise<Registration> {
  const registered = await registeredIn(connection, namespace, waitMs);
  const wrong = Object.keys(TYPES).filter((name) => registered[name] !== TYPES[name]);
  const missing = wrong.filter((name) => registered[name] === undefined);
  const mistyped = wrong.filter((name) => registered[name] !== undefined);
  return { usable: wrong.length === 0, missing, mistyped, reason: null };
}

/**
 * Adds the missing ones and waits until they can be used. `reason` says why they cannot, for
 * example because this client lacks the right to add them. Throws the client's errors where they
 * cannot be listed.
 */
export async function registerSearchAttributes(
  connection: ConnectionLike,
  namespace: string,
): Promise<Registration> {
  const before = await searchAttributesOf(connection, namespace);
  if (before.missing.length === 0) return before;
  try {
    await bounded(connection, () =>
      connection.operatorService.addSearchAttributes({
        namespace,
        searchAttributes: Object.fromEntries(before.missing.map((name) => [name, TYPES[name]!])),
      }),
    );
  } catch (error) {
    // Another process may have added them first.
    const after = await searchAttributesOf(connection, namespace);
    return after.missing.length === 0 ? after : { ...after, reason: messageOf(error) };
  }
  const until = Date.now() + EFFECT_WAIT_MS;
  for (;;) {
    const after = await searchAttributesOf(connection, namespace);
    if (after.missing.length === 0) return after;
    const reason = `they were added and are not listed after ${EFFECT_WAIT_MS / 1_000} s`;
    if (Date.now() >= until) return { ...after, reason };
    await new Promise((resolve) => setTimeout(resolve, EFFECT_LOOK_MS));
  }
}

export function registrationCure({ missing, mistyped }: Registration, namespace: string): string {
  if (mistyped.length > 0)
    return (
      `${mistyped.join(', ')} ${mistyped.length === 1 ? 'has' : 'have'} another type in ` +
      `namespace ${namespace}: give Errata a namespace of its own, ` +
      'or set ERRATA_TEMPORAL_SEARCH_ATTRIBUTES=false.'
    );
  const typed = missing.map(
    (name) =>
      [name, WRITTEN_TYPES[SEARCH_ATTRIBUTES[name as keyof typeof SEARCH_ATTRIBUTES]]] as const,
  );
  const options = typed.map(([name, type]) => `--name ${name} --type ${type}`).join(' ');
  const cloudOptions = typed.map(([name, type]) => `--sa ${name}=${type}`).join(' ');
  return (
    `temporal operator search-attribute create --namespace ${namespace} ${options} ` +
    `(on Temporal Cloud: tcld namespace search-attributes add --namespace ${namespace} ` +
    `${cloudOptions}), then start ingest again.`
  );
}

const WRITTEN_TYPES = { KEYWORD: 'Keyword', INT: 'Int', KEYWORD_LIST: 'KeywordList' } as const;

/** Returns the types by name. A client that may not list them probes each by a query. */
async function registeredIn(
  connection: ConnectionLike,
  namespace: string,
  waitMs: number,
): Promise<Partial<Record<string, number>>> {
  try {
    const list = () => connection.operatorService.listSearchAttributes({ namespace });
    return (await bounded(connection, list, waitMs)).customAttributes ?? {};
  } catch (error) {
    if (!hasCode(error, GRPC_PERMISSION_DENIED, GRPC_UNIMPLEMENTED)) throw error;
  }
  const found: Partial<Record<string, number>> = {};
  for (const [name, type] of Object.entries(TYPES)) {
    const isNumber = SEARCH_ATTRIBUTES[name as keyof typeof SEARCH_ATTRIBUTES] === 'INT';
    const query = `${name} = ${isNumber ? '0' : '"-"'}`;
    try {
      const count = () => connection.workflowService.countWorkflowExecutions({ namespace, query });
      await bounded(connection, count, waitMs);
      found[name] = type!;
    } catch (error) {
      if (!hasCode(error, GRPC_INVALID_ARGUMENT)) throw error;
    }
  }
  return found;
}

const GRPC_INVALID_ARGUMENT = 3;
const GRPC_PERMISSION_DENIED = 7;
const GRPC_UNIMPLEMENTED = 12;

function hasCode(error: unknown, ...codes: number[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(Number(error.code));
}

async function bounded<Answer>(
  connection: ConnectionLike,
  call: () => Promise<Answer>,
  waitMs = CALL_WAIT_MS,
): Promise<Answer> {
  return await connection.withDeadline(Date.now() + waitMs, call);
}
