import { existsSync } from 'node:fs';
import path from 'node:path';

/** The Java that runs the embedded broker: the one in `JAVA_HOME`, else the first on the path. */
export function javaExecutable(environment: NodeJS.ProcessEnv = process.env): string {
  const javaHome = environment['JAVA_HOME'];
  const inHome =
    javaHome === undefined || javaHome === '' ? undefined : path.join(javaHome, 'bin', 'java');
  return inHome !== undefined && existsSync(inHome) ? inHome : 'java';
}
