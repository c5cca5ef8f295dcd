/** The version log where the configuration says that it is. */
import type { Versions } from '../versions/versions.ts';
import { versionsInFolder } from '../versions/versions.ts';
import type { Configuration } from './configuration.ts';

export function openVersions(configuration: Pick<Configuration, 'versions'>): Versions {
  return versionsInFolder(configuration.versions);
}
