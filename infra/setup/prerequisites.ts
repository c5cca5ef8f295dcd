/**
 * Checks the machine's prerequisites for installing and running. The checks change nothing, and
 * report missing prerequisites instead of throwing.
 */
import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { totalmem } from 'node:os';
import path from 'node:path';
import { promisify, stripVTControlCharacters } from 'node:util';
import type { Device, Home } from '../config/home.ts';
import nodeMinimum from './node-minimum.json' with { type: 'json' };
import { findCompiler, javaExecutable } from './programs.ts';

/** The result of one check. Only a `missing` prerequisite prevents the set-up. */
export interface Finding {
  readonly prerequisite: Prerequisite;
  readonly name: string;
  readonly state: 'ok' | 'low' | 'missing';
  readonly found: string;
  readonly needed: string;
  /** The remedy; empty if none is needed. */
  readonly mend: string;
}

interface Check {
  readonly name: string;
  readonly needed: string | ((home: Home, device: Device) => string);
  readonly mend: string;
  look(home: Home, device: Device): Promise<Pick<Finding, 'state' | 'found'>>;
}

const LOOK_WAIT_MS = 30_000;
const GIGABYTE = 1_000_000_000;
/**
 * A whole set-up (1.0 GB, or 4.2 GB with the CUDA build) and its largest download with pip's copy,
 * rounded up.
 */
const DISK_BYTES: Readonly<Record<Device, number>> = { cpu: 2 * GIGABYTE, gpu: 7 * GIGABYTE };
/** The embedded model with gradients, the broker, Temporal and the other processes. */
const MEMORY_BYTES = 6 * GIGABYTE;
/** The first minor version of each Node.js line on which all packages run. */
const NODE_MINIMUM: Readonly<Record<string, number>> = nodeMinimum;

const CHECKS = {
  node: {
    name: 'Node.js',
    needed: '20 (from 20.19), 22 (from 22.13), 24 or 26',
    mend: 'Install a supported Node.js, for example with your version manager.',
    async look() {
      const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
      const minimum = NODE_MINIMUM[String(major)];
      const found = process.version;
      // A version between or after the supported ones may work.
      if (minimum === undefined && major >= 20) return { state: 'low', found };
      return isOk(minimum !== undefined && minor >= minimum, found);
    },
  },
  npm: {
    name: 'npm',
    needed: '10 or newer',
    mend:
      'It comes with Node.js. On Debian and Ubuntu it may be a package of its own ' +
      '(apt-get install npm).',
    look: () => version(['npm', '--version'], /(\d+)\.\d+\.\d+/, 10),
  },
  platform: {
    name: 'Platform',
    needed: 'Linux on x86-64 with glibc',
    mend:
      'Use a container or virtual machine with such a system: TensorFlow and Temporal are ' +
      'installed as binaries.',
    async look() {
      const { header } = process.report.getReport() as {
        header?: { glibcVersionRuntime?: string };
      };
      const glibc = header?.glibcVersionRuntime !== undefined;
      const supported = process.platform === 'linux' && process.arch === 'x64' && glibc;
      return isOk(supported, `${process.platform} ${process.arch}${glibc ? '' : ' without glibc'}`);
    },
  },
  python: {
    name: 'Python with pip',
    needed: 'Python 3.8 with pip 20.3, or newer',
    mend:
      'On Debian and Ubuntu: apt-get install python3 python3-pip. Python only downloads; none of ' +
      'it runs in the system.',
    async look() {
      const program = 'import sys, pip; print(sys.version.split()[0], "pip", pip.__version__)';
      const answer = await run(['python3', '-c', program]);
      if (answer === null) return absent(await run(['python3', '--version']), 'without pip');
      const [, python, pip, pipMinor] = /^3\.(\d+)\.\S+ pip (\d+)\.(\d+)/.exec(answer) ?? [];
      return isOk(
        Number(python) >= 8 && isAtLeast([Number(pip), Number(pipMinor)], [20, 3]),
        answer.trim(),
      );
    },
  },
  compiler: {
    name: 'C++ compiler',
    needed: 'g++ or clang++ with C++17',
    mend: 'On Debian and Ubuntu: apt-get install g++. Or set CXX.',
    async look() {
      const compiler = findCompiler();
      if (compiler === undefined) return absent(null);
      const found = (await run([compiler, '--version']))?.split('\n')[0] ?? compiler;
      // In small containers the compiler often lacks its standard library.
      const compile = [compiler, '-std=c++17', '-fsyntax-only', '-x', 'c++', '-'];
      return (await run(compile, '#include <string_view>\n')) === null
        ? absent(found, 'cannot compile C++17')
        : { state: 'ok', found };
    },
  },
  java: {
    name: 'Java',
    needed: '17 or newer',
    mend: 'On Debian and Ubuntu: apt-get install openjdk-17-jre-headless. Or set JAVA_HOME.',
    look: () => version([javaExecutable(), '-version'], /version "(\d+)/, 17),
  },
  maven: {
    name: 'Maven',
    needed: '3.6 or newer',
    mend: 'On Debian and Ubuntu: apt-get install maven.',
    look: () => version(['mvn', '--batch-mode', '--version'], /Apache Maven (\d+)\.(\d+)/, 3, 6),
  },
  disk: {
    name: 'Free disk',
    needed: (home, device) => `${DISK_BYTES[device] / GIGABYTE} GB for ${home.root}`,
    mend: 'Free some space, or name a folder on a larger disk in ERRATA_HOME.',
    async look(home, device) {
      const disk = await statfs(nearestFolder(home.root));
      const bytes = disk.bavail * disk.bsize;
      return isOk(bytes >= DISK_BYTES[device], `${(bytes / GIGABYTE).toFixed(1)} GB`);
    },
  },
  memory: {
    name: 'Memory',
    needed: `${MEMORY_BYTES / GIGABYTE} GB`,
    mend: 'The system may be killed while it edits: give the machine or container more memory.',
    async look() {
      const bytes = memoryLimit();
      const found = `${(bytes / GIGABYTE).toFixed(1)} GB`;
      return { state: bytes >= MEMORY_BYTES ? 'ok' : 'low', found };
    },
  },
  home: {
    name: 'Data folder',
    needed: (home) => `${home.root}, writable`,
    mend: 'Give this user the right to write there, or name another folder in ERRATA_HOME.',
    async look(home) {
      const nearest = nearestFolder(home.root);
      try {
        accessSync(nearest, constants.W_OK | constants.X_OK);
        return { state: 'ok', found: nearest === home.root ? 'writable' : 'can be created' };
      } catch {
        return { state: 'missing', found: `${nearest} is not writable` };
      }
    },
  },
} as const satisfies Record<string, Check>;

export type Prerequisite = keyof typeof CHECKS;
export const PREREQUISITES = Object.keys(CHECKS) as Prerequisite[];

/** Checks all prerequisites concurrently. */
export function examine(
  prerequisites: readonly Prerequisite[],
  home: Home,
  device: Device,
): Promise<Finding[]> {
  return Promise.all(
    prerequisites.map(async (prerequisite) => {
      const check: Check = CHECKS[prerequisite];
      const { name, needed, mend } = check;
      const { state, found } = await check.look(home, device);
      return {
        prerequisite,
        name,
        state,
        found,
        needed: typeof needed === 'string' ? needed : needed(home, device),
        mend: state === 'ok' ? '' : mend,
      };
    }),
  );
}

/** Returns the machine's memory or its container's limit, in bytes, used or not. */
export function memoryLimit(): number {
  // Without a limit Node returns 0, or a number far above the machine's memory.
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

function isOk(ok: boolean, found: string): Pick<Finding, 'state' | 'found'> {
  return { state: ok ? 'ok' : 'missing', found };
}

function absent(answer: string | null, trouble = ''): Pick<Finding, 'state' | 'found'> {
  return isOk(false, answer === null ? 'none' : `${answer.trim()}, ${trouble}`);
}

function isAtLeast([major, minor]: [number, number], least: [number, number]): boolean {
  return major > least[0] || (major === least[0] && minor >= least[1]);
}

/** Returns the version in the program's output, matched by the pattern. */
async function version(
  command: readonly string[],
  pattern: RegExp,
  ...[major, minor = 0]: [number, number?]
): Promise<Pick<Finding, 'state' | 'found'>> {
  const match = pattern.exec((await run(command)) ?? '');
  if (match === null) return absent(null);
  const found: [number, number] = [Number(match[1]), Number(match[2] ?? 0)];
  return isOk(isAtLeast(found, [major, minor]), match[0].replace(/^\D+/, ''));
}

/** Returns a program's output; null if it is absent, fails or does not end in time. */
async function run([executable, ...args]: readonly string[], input = ''): Promise<string | null> {
  try {
    const running = promisify(execFile)(executable!, args, { timeout: LOOK_WAIT_MS });
    running.child.stdin?.on('error', () => {}).end(input);
    const { stdout, stderr } = await running;
    return stripVTControlCharacters(stdout + stderr);
  } catch {
    return null;
  }
}

function nearestFolder(folder: string): string {
  let nearest = folder;
  while (!existsSync(nearest)) nearest = path.dirname(nearest);
  return nearest;
}
