import { readFileSync } from 'node:fs';

/** The project's version, as in its package.json. */
export function softwareVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
