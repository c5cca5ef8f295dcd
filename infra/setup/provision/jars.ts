/** Installs the Kafka broker's jars: Maven copies them into one folder, and each is checked. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { during, type Progress } from '../progress.ts';
import { ProvisionError, runClient, verifySha256 } from './client-process.ts';
import { KAFKA_ARTIFACTS, KAFKA_JARS, MAVEN_DEPENDENCY_PLUGIN } from './pins.ts';

const DOWNLOAD_WAIT_MS = 1_800_000;

/** Fills `folder` with `libs/*.jar`. Throws `ProvisionError` unless they are the pinned files. */
export async function installJars(folder: string, progress: Progress): Promise<void> {
  const libs = path.join(folder, 'libs');
  mkdirSync(libs, { recursive: true });
  const pom = path.join(folder, 'pom.xml');
  writeFileSync(pom, pomText());
  const count = Object.keys(KAFKA_JARS).length;
  const step = progress.step('Download Kafka', { amount: count, unit: 'files' });
  let downloaded = 0;
  await during(step, async () => {
    await runClient({
      executable: 'mvn',
      args: [
        ...['--batch-mode', '--file', pom, `${MAVEN_DEPENDENCY_PLUGIN}:copy-dependencies`],
        ...['-DincludeScope=runtime', `-DoutputDirectory=${libs}`],
      ],
      folder,
      waitMs: DOWNLOAD_WAIT_MS,
      // Maven does not name cached files.
      onLine: (line) => {
        if (/Downloaded .*\.jar/.test(line))
          step.at((downloaded = Math.min(downloaded + 1, count)));
      },
      hint:
        'Try "mvn dependency:get -Dartifact=org.apache.kafka:kafka_2.13:' +
        `${KAFKA_ARTIFACTS[0].version}" by hand; Maven takes mirrors and proxies from its ` +
        'settings.xml.',
    });
    await verifyJars(libs);
    rmSync(path.join(folder, 'target'), { recursive: true, force: true });
    return 'checked';
  });
}

async function verifyJars(libs: string): Promise<void> {
  const found = readdirSync(libs);
  const missing = Object.keys(KAFKA_JARS).filter((name) => !found.includes(name));
  const unknown = found.filter((name) => KAFKA_JARS[name] === undefined);
  const list = (names: string[]) => names.join(', ') || 'none';
  if (missing.length > 0 || unknown.length > 0)
    throw new ProvisionError(
      `Maven chose other jars than the pinned ones. Missing: ${list(missing)}. ` +
        `Unknown: ${list(unknown)}.`,
      { missing, unknown },
      "A private repository may offer other versions: check Maven's settings.xml.",
    );
  for (const [name, sha256] of Object.entries(KAFKA_JARS))
    await verifySha256(path.join(libs, name), sha256);
}

function pomText(): string {
  const dependencies = KAFKA_ARTIFACTS.map(
    ({ groupId, artifactId, version }) => `
    <dependency>
      <groupId>${groupId}</groupId>
      <artifactId>${artifactId}</artifactId>
      <version>${version}</version>
    </dependency>`,
  );
  return `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>errata</groupId>
  <artifactId>embedded-kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>${dependencies.join('')}
  </dependencies>
</project>
`;
}
