import type { ServingDependencies } from '../../serving/server.ts';

const nothing = (): void => {};

/** For a server inside a command, which tells of failures itself. */
export const SILENT_SERVER_LOG: ServingDependencies['logger'] = {
  level: 'silent',
  fatal: nothing,
  error: nothing,
  warn: nothing,
  info: nothing,
  debug: nothing,
  trace: nothing,
  silent: nothing,
  child: () => SILENT_SERVER_LOG,
};
