import { FileStore } from '../../versions/stores/file-store.ts';
import { S3Store } from '../../versions/stores/s3-store.ts';
import { Versions } from '../../versions/versions.ts';
import { readCertificate, type Configuration } from './configuration.ts';

/**
 * Opens the version log, which connects on first use. Throws `ConfigurationError` if a certificate
 * file cannot be read.
 */
export function openVersions({ versions }: Pick<Configuration, 'versions'>): Versions {
  return new Versions(
    versions.kind === 'folder' ? new FileStore(versions.folder) : openBucket(versions),
  );
}

/** Opens the store in a bucket; same conditions as `openVersions`. */
export function openBucket({
  credentials,
  caPath,
  ...place
}: Extract<Configuration['versions'], { kind: 's3' }>): S3Store {
  const ca = readCertificate(caPath, 's3.ca');
  return new S3Store({
    ...place,
    credentials: credentials && {
      accessKeyId: credentials.accessKeyId,
      secretAccessKey: credentials.secretAccessKey.reveal(),
    },
    ...(ca === undefined ? {} : { ca }),
  });
}
