/** The version log where the configuration says that it is. */
import { FileStore } from '../../versions/stores/file-store.ts';
import type { ObjectStore } from '../../versions/stores/object-store.ts';
import { S3Store } from '../../versions/stores/s3-store.ts';
import { Versions } from '../../versions/versions.ts';
import { certificateIn } from '../config/certificate-file.ts';
import type { Configuration } from '../config/configuration.ts';

/**
 * Nothing is opened or asked before the first use. Throws `ConfigurationError` where a named
 * certificate file cannot be read.
 */
export function openVersions(configuration: Pick<Configuration, 'versions'>): Versions {
  return new Versions(openStore(configuration));
}

/** The store that the versions are in; as `openVersions`. */
export function openStore({ versions }: Pick<Configuration, 'versions'>): ObjectStore {
  return versions.kind === 'folder' ? new FileStore(versions.folder) : openBucket(versions);
}

/** As `openVersions`. */
export function openBucket({
  credentials,
  caPath,
  ...place
}: Extract<Configuration['versions'], { kind: 's3' }>): S3Store {
  const ca = certificateIn(caPath, 's3.ca');
  return new S3Store({
    ...place,
    credentials:
      credentials === null
        ? null
        : {
            accessKeyId: credentials.accessKeyId,
            secretAccessKey: credentials.secretAccessKey.reveal(),
          },
    ...(ca === undefined ? {} : { ca }),
  });
}
