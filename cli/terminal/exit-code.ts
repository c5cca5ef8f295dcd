/**
 * What a command's exit status says. They are documented in docs/commands.md and by `errata help`.
 */
export const EXIT = {
  ok: 0,
  /** The command did not do what it was asked, or a check failed. */
  failure: 1,
  /** Wrong flags, wrong input or wrong configuration: nothing was begun. */
  usage: 2,
  /** It needs a running system and there is none. */
  notRunning: 3,
  /** Ended by Ctrl-C. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export const EXIT_MEANINGS: [ExitCode, string][] = [
  [EXIT.ok, 'done'],
  [EXIT.failure, 'not done, or a check failed'],
  [EXIT.usage, 'wrong flags, input or configuration: nothing was begun'],
  [EXIT.notRunning, 'no system is running'],
  [EXIT.interrupted, 'ended by Ctrl-C'],
];
