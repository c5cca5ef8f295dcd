/** The version log where the configuration says that it is. */
import { FileStore } from '../../versions/stores/file-store.ts';
import { S3Store } from '../../versions/stores/s3-store.ts';
import { Versions } from '../../versions/versions.ts';
import { readCertificate, type Configuration } from './configuration.ts';

/**
 * Nothing is opened or asked before the first use. Throws `ConfigurationError` where a named
 * certificate file cannot be read.
 */
export function openVersions({ versions }: Pick<Configuration, 'versions'>): Versions {
  return new Versions(
    versions.kind === 'folder' ? new FileStore(versions.folder) : openBucket(versions),
  );
}

/** As `openVersions`. */
export function openBucket({
  credentials,
  caPath,
  ...place
}: Extract<Configuration['versions'], { kind: 's3' }>): S3Store {
  const ca = readCertificate(caPath, 's3.ca');
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
