/** Files of certificates and keys that a setting names. */
import { readFileSync } from 'node:fs';
import { ConfigurationError } from './configuration.ts';
import { SETTINGS } from './configuration-settings.ts';

/**
 * The PEM text; undefined where no file is named. Throws `ConfigurationError` in the setting's
 * words.
 */
export function certificateIn(path: string | null, setting: string): string | undefined {
  try {
    return path === null ? undefined : readFileSync(path, 'utf8');
  } catch {
    throw new ConfigurationError([
      { name: SETTINGS[setting]!.variable, value: path, expected: 'a file that can be read' },
    ]);
  }
}
