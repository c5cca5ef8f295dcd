/** The Kafka broker's jars, copied by Maven into one folder and checked one by one. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Progress } from '../progress.ts';
import { verifySha256 } from './client-process.ts';
import { runClient } from './client-process.ts';
import type { Stamp } from './installation.ts';
import { KAFKA_JARS } from './kafka-jars.ts';
import { KAFKA_ARTIFACTS, MAVEN_DEPENDENCY_PLUGIN } from './pins.ts';
import { ProvisionError } from './client-process.ts';

/** What the folder is made from. */
export function kafkaStamp(): Stamp {
  return KAFKA_JARS;
}

/**
 * Fills `folder` with `libs/*.jar`; throws `ProvisionError` if one is missing, unknown or not the
 * pinned file.
 */
export async function makeKafka(folder: string, progress: Progress): Promise<void> {
  const libs = path.join(folder, 'libs');
  mkdirSync(libs, { recursive: true });
  const pom = path.join(folder, 'pom.xml');
  writeFileSync(pom, pomText());
  const names = Object.keys(KAFKA_JARS);
  const step = progress.step('Download Kafka', { amount: names.length, unit: 'files' });
  let downloaded = 0;
  try {
    await runClient({
      executable: 'mvn',
      args: [
        ...['--batch-mode', '--file', pom, `${MAVEN_DEPENDENCY_PLUGIN}:copy-dependencies`],
        ...['-DincludeScope=runtime', `-DoutputDirectory=${libs}`],
      ],
      folder,
      waitMs: DOWNLOAD_WAIT_MS,
      // Maven names each file it fetched; those that it had are not named, and the count jumps at
      // the end.
      onLine: (line) => {
        if (/Downloaded .*\.jar/.test(line))
          step.at((downloaded = Math.min(downloaded + 1, names.length)));
      },
      hint: `Try "mvn dependency:get -Dartifact=org.apache.kafka:kafka_2.13:${KAFKA_ARTIFACTS[0].version}" by hand; Maven takes mirrors and proxies from its settings.xml.`,
    });
    await verifyJars(libs, names);
    rmSync(path.join(folder, 'target'), { recursive: true, force: true });
    step.done('checked');
  } catch (error) {
    step.failed();
    throw error;
  }
}

const DOWNLOAD_WAIT_MS = 1_800_000;

async function verifyJars(libs: string, names: readonly string[]): Promise<void> {
  const found = readdirSync(libs);
  const missing = names.filter((name) => !found.includes(name));
  const unknown = found.filter((name) => KAFKA_JARS[name] === undefined);
  if (missing.length > 0 || unknown.length > 0) {
    throw new ProvisionError(
      `Maven's choice of jars is not the pinned one. Missing: ${list(missing)}. Not known: ${list(unknown)}.`,
      { missing, unknown },
      "A repository of your own may answer with other versions: check Maven's settings.xml.",
    );
  }
  for (const name of names) await verifySha256(path.join(libs, name), KAFKA_JARS[name] ?? '');
}

function list(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.join(', ');
}

function pomText(): string {
  const dependencies = KAFKA_ARTIFACTS.map(
    ({ groupId, artifactId, version }) =>
      `    <dependency><groupId>${groupId}</groupId><artifactId>${artifactId}</artifactId><version>${version}</version></dependency>`,
  );
  return `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>errata</groupId>
  <artifactId>embedded-kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
${dependencies.join('\n')}
  </dependencies>
</project>
`;
}
