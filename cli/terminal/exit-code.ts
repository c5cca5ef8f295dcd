/** The exit codes of all commands, as docs/commands.md and `errata help` list them. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  notRunning: 3,
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
