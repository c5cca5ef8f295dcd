/** Programs of this machine that the set-up and the embedded broker run. */
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import path from 'node:path';

/** Returns the Java in `JAVA_HOME`, else the first on the path. */
export function javaExecutable(environment: NodeJS.ProcessEnv = process.env): string {
  const java = path.join(environment['JAVA_HOME'] ?? '', 'bin', 'java');
  return environment['JAVA_HOME'] && existsSync(java) ? java : 'java';
}

/** Returns the C++ compiler named by `CXX`, else the first usual name found on the path. */
export function findCompiler(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const candidates = environment['CXX'] ? [environment['CXX']] : ['g++', 'c++', 'clang++'];
  return candidates.find((name) => isOnPath(name, environment));
}

function isOnPath(name: string, environment: NodeJS.ProcessEnv): boolean {
  const folders = name.includes(path.sep)
    ? ['']
    : (environment['PATH'] ?? '').split(path.delimiter);
  return folders.some((folder) => {
    const file = path.join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      return statSync(file).isFile();
    } catch {
      return false;
    }
  });
}
