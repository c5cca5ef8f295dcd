import { readFileSync } from 'node:fs';

/** The project's version, as in its package.json. */
export function softwareVersion(): string {
  return (
    JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
      version: string;
    }
  ).version;
}
