/**
 * What this machine must have before anything can be installed or run, each with what was found,
 * what is needed and how to mend it. Nothing here changes the machine, and nothing throws because
 * something is missing.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { totalmem } from 'node:os';
import path from 'node:path';
import type { Device, Home } from '../config/home.ts';
import { javaExecutable } from './programs.ts';
import nodeMinimum from './node-minimum.json' with { type: 'json' };
import { findCompiler } from './programs.ts';

export const PREREQUISITES = [
  'node',
  'npm',
  'platform',
  'python',
  'compiler',
  'java',
  'maven',
  'disk',
  'memory',
  'home',
] as const;

export type Prerequisite = (typeof PREREQUISITES)[number];

/** How one prerequisite was found. Only a `missing` one keeps the set-up from working. */
export interface Finding {
  readonly prerequisite: Prerequisite;
  /** For people. */
  readonly name: string;
  readonly state: 'ok' | 'low' | 'missing';
  readonly found: string;
  readonly needed: string;
  /** What to do about it; empty if it is fine. */
  readonly mend: string;
}

/** Looks at all of the prerequisites at once. */
export function examine(
  prerequisites: readonly Prerequisite[],
  home: Home,
  device: Device,
): Promise<Finding[]> {
  return Promise.all(
    prerequisites.map(async (prerequisite) => {
      const { name, needed, mend, look } = CHECKS[prerequisite](home, device);
      const { state, found } = await look();
      return { prerequisite, name, state, found, needed, mend: state === 'ok' ? '' : mend };
    }),
  );
}

/** Those of the prerequisites without which nothing works. */
export async function missingPrerequisites(
  prerequisites: readonly Prerequisite[],
  home: Home,
  device: Device,
): Promise<Finding[]> {
  return (await examine(prerequisites, home, device)).filter(
    (finding) => finding.state === 'missing',
  );
}

interface Check {
  readonly name: string;
  readonly needed: string;
  readonly mend: string;
  readonly look: () => Promise<{ state: Finding['state']; found: string }>;
}

/** First minor version of each supported line of Node.js that all packages run on. */
const NODE_MINIMUM: Readonly<Record<string, number>> = nodeMinimum;
const LOOK_WAIT_MS = 30_000;
const GIGABYTE = 1_000_000_000;
/**
 * What a whole set-up leaves (1.0 GB, with the CUDA build 4.2 GB) and its biggest download with
 * pip's copy, rounded up.
 */
const DISK_BYTES: Readonly<Record<Device, number>> = { cpu: 2 * GIGABYTE, gpu: 7 * GIGABYTE };
/** The embedded model with gradients, the broker, Temporal and the processes around them. */
const MEMORY_BYTES = 6 * GIGABYTE;

const CHECKS: Readonly<Record<Prerequisite, (home: Home, device: Device) => Check>> = {
  node: () => ({
    name: 'Node.js',
    needed: '20 (from 20.19), 22 (from 22.13), 24 or 26',
    mend: 'Install a Node.js that is supported, for example with your version manager.',
    look: async () => {
      const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
      const minimum = NODE_MINIMUM[String(major)];
      if (minimum === undefined)
        return { state: major < 20 ? 'missing' : 'low', found: process.version };
      return { state: minor >= minimum ? 'ok' : 'missing', found: process.version };
    },
  }),
  npm: () => ({
    name: 'npm',
    needed: '10 or newer',
    mend: 'It comes with Node.js; on Debian and Ubuntu it may be a package of its own (apt-get install npm).',
    look: () => version('npm', ['--version'], /(\d+)\.\d+\.\d+/, 10),
  }),
  platform: () => ({
    name: 'Platform',
    needed: 'Linux on x86-64 with glibc',
    mend: 'Run it in a container or virtual machine with such a system: TensorFlow and Temporal are installed as binaries.',
    look: async () => {
      const found = `${process.platform} ${process.arch}${usesGlibc() ? '' : ' without glibc'}`;
      return {
        state:
          process.platform === 'linux' && process.arch === 'x64' && usesGlibc() ? 'ok' : 'missing',
        found,
      };
    },
  }),
  python: () => ({
    name: 'Python with pip',
    needed: 'Python 3.8 with pip 20.3, or newer',
    mend: 'Debian and Ubuntu: apt-get install python3 python3-pip. Python only downloads; none of it runs in the system.',
    look: async () => {
      const program = 'import sys, pip; print(sys.version.split()[0], "pip", pip.__version__)';
      const answer = await ask('python3', ['-c', program]);
      if (answer === undefined) return absent(await ask('python3', ['--version']), 'without pip');
      const [, pythonMinor = '', pipMajor = '', pipMinor = ''] =
        /^3\.(\d+)\.\S+ pip (\d+)\.(\d+)/.exec(answer) ?? [];
      const fits =
        Number(pythonMinor) >= 8 &&
        (Number(pipMajor) > 20 || (Number(pipMajor) === 20 && Number(pipMinor) >= 3));
      return { state: fits ? 'ok' : 'missing', found: answer.trim() };
    },
  }),
  compiler: () => ({
    name: 'C++ compiler',
    needed: 'g++ or clang++ with C++17',
    mend: 'Debian and Ubuntu: apt-get install g++. Or name yours in CXX.',
    look: async () => {
      const compiler = findCompiler();
      if (compiler === undefined) return { state: 'missing', found: 'none' };
      const firstLine = (await ask(compiler, ['--version']))?.split('\n')[0] ?? compiler;
      // A compiler without its standard library is common in small containers.
      const compiles = await ask(
        compiler,
        ['-std=c++17', '-fsyntax-only', '-x', 'c++', '-'],
        '#include <string_view>\n',
      );
      return compiles === undefined
        ? absent(firstLine, 'cannot compile C++17')
        : { state: 'ok', found: firstLine };
    },
  }),
  java: () => ({
    name: 'Java',
    needed: '17 or newer',
    mend: 'Debian and Ubuntu: apt-get install openjdk-17-jre-headless. Or name yours in JAVA_HOME.',
    look: () => version(javaExecutable(), ['-version'], /version "(\d+)/, 17),
  }),
  maven: () => ({
    name: 'Maven',
    needed: '3.6 or newer',
    mend: 'Debian and Ubuntu: apt-get install maven.',
    look: () => version('mvn', ['--batch-mode', '--version'], /Apache Maven (\d+)\.(\d+)/, 3, 6),
  }),
  disk: (home, device) => ({
    name: 'Free disk',
    needed: `${DISK_BYTES[device] / GIGABYTE} GB for ${home.root}`,
    mend: 'Make room, or name a folder on a bigger disk in ERRATA_HOME.',
    look: async () => {
      const disk = await statfs(nearestFolder(home.root));
      const bytes = disk.bavail * disk.bsize;
      return {
        state: bytes >= DISK_BYTES[device] ? 'ok' : 'missing',
        found: `${(bytes / GIGABYTE).toFixed(1)} GB`,
      };
    },
  }),
  memory: () => ({
    name: 'Memory',
    needed: `${MEMORY_BYTES / GIGABYTE} GB`,
    mend: 'The system may be killed while it edits: give the machine or container more.',
    look: async () => {
      const bytes = memoryLimit();
      return {
        state: bytes >= MEMORY_BYTES ? 'ok' : 'low',
        found: `${(bytes / GIGABYTE).toFixed(1)} GB`,
      };
    },
  }),
  home: (home) => ({
    name: 'Data folder',
    needed: `${home.root}, writable`,
    mend: 'Give yourself the right to write there, or name another folder in ERRATA_HOME.',
    look: async () => {
      const nearest = nearestFolder(home.root);
      try {
        accessSync(nearest, constants.W_OK | constants.X_OK);
        return { state: 'ok', found: nearest === home.root ? 'writable' : 'can be made' };
      } catch {
        return { state: 'missing', found: `${nearest} cannot be written to` };
      }
    },
  }),
};

async function version(
  executable: string,
  args: readonly string[],
  pattern: RegExp,
  major: number,
  minor = 0,
): Promise<{ state: Finding['state']; found: string }> {
  const answer = await ask(executable, args);
  const match = answer === undefined ? null : pattern.exec(answer);
  if (match === null) return { state: 'missing', found: 'none' };
  const [foundMajor, foundMinor] = [Number(match[1]), Number(match[2] ?? 0)];
  const fits = foundMajor > major || (foundMajor === major && foundMinor >= minor);
  return { state: fits ? 'ok' : 'missing', found: match[0].replace(/^\D+/, '') };
}

function absent(answer: string | undefined, trouble: string): { state: 'missing'; found: string } {
  return {
    state: 'missing',
    found: answer === undefined ? 'none' : `${answer.trim()}, ${trouble}`,
  };
}

/** What a program says on both its outputs; undefined if it is not there, fails or does not end. */
function ask(executable: string, args: readonly string[], input = ''): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = spawn(executable, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: LOOK_WAIT_MS,
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    child.once('error', () => {
      resolve(undefined);
    });
    child.once('close', (code) => {
      // Colours, as Maven writes them, are no part of the answer.
      resolve(code === 0 ? output.replaceAll(/\x1b\[[\d;]*m/g, '') : undefined);
    });
  });
}

function usesGlibc(): boolean {
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return report.header?.glibcVersionRuntime !== undefined;
}

function nearestFolder(folder: string): string {
  let nearest = folder;
  while (!existsSync(nearest)) nearest = path.dirname(nearest);
  return nearest;
}

/** The machine's memory or its container's limit, in bytes, however much is in use. */
export function memoryLimit(): number {
  // Without a limit Node answers 0, or a number far above the machine's memory.
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}
