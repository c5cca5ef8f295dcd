import {
  ActivityFailure,
  ApplicationFailure,
  ChildWorkflowFailure,
  rootCause,
} from '@temporalio/workflow';

const REASON_CHARACTERS_MAX = 500;

/** Returns the innermost message of a failure, for an outcome's reason. */
export function reasonOf(error: unknown): string {
  return (rootCause(error) ?? String(error)).slice(0, REASON_CHARACTERS_MAX);
}

/** Returns the class of an activity's final failure, for programs. */
export function failureTypeOf(error: unknown): string {
  let cause: unknown = error;
  while (
    (cause instanceof ActivityFailure || cause instanceof ChildWorkflowFailure) &&
    cause.cause !== undefined
  )
    cause = cause.cause;
  if (cause instanceof ApplicationFailure) return cause.type ?? 'ApplicationFailure';
  return cause instanceof Error ? cause.name : 'unknown';
}
