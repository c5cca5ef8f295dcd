import { accessSync, constants, statSync } from 'node:fs';
import path from 'node:path';

/**
 * The C++ compiler that the set-up uses: the one that `CXX` names, else the first of the usual
 * names on the path.
 */
export function findCompiler(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const named = environment['CXX'];
  const candidates = named !== undefined && named !== '' ? [named] : ['g++', 'c++', 'clang++'];
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
