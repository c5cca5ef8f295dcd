/**
 * Runs the package registries' clients (pip, Maven) and the C++ compiler, and checks downloads. A
 * client has a time limit, is silent unless it fails, and ends when we end.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';

/** A step of the set-up failed. Parts already installed are kept; the next set-up resumes there. */
export class ProvisionError extends Error {
  override readonly name = 'ProvisionError';
  constructor(
    message: string,
    readonly facts: Record<string, unknown>,
    readonly hint: string,
  ) {
    super(`${message}\n${hint}`);
  }
}

export interface ClientCommand {
  readonly executable: string;
  readonly args: readonly string[];
  readonly folder: string;
  readonly environment?: NodeJS.ProcessEnv;
  readonly waitMs: number;
  readonly onLine?: (line: string) => void;
  /** Advice for the user on failure. */
  readonly hint: string;
}

const OUTPUT_CHARACTERS_MAX = 4_000;
const READ_BYTES = 1 << 20;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs the client and returns its output. Throws `ProvisionError` with the end of the output if it
 * fails or takes longer than `waitMs`.
 */
export async function runClient(command: ClientCommand): Promise<string> {
  const { executable, args, waitMs, hint } = command;
  const child = spawn(executable, args, {
    cwd: command.folder,
    env: command.environment ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    // A separate group, so that the client's children end with it.
    detached: true,
  });
  const release = endWithUs(child.pid);
  let output = '';
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    killGroup(child.pid);
  }, waitMs);
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      const text = chunk.toString();
      output = (output + text).slice(-OUTPUT_CHARACTERS_MAX);
      text.split('\n').forEach((line) => command.onLine?.(line));
    });
  try {
    const failure = await new Promise<string | null>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('close', (code, signal) =>
        resolve(code === 0 ? null : `it ended with ${signal ?? `code ${String(code)}`}`),
      );
    });
    if (failure === null) return output;
    const reason = timedOut ? `it took longer than ${waitMs / 1000} s` : failure;
    throw new ProvisionError(
      `${executable} failed: ${reason}.\n${output.trim()}`,
      { executable, args, reason },
      hint,
    );
  } finally {
    clearTimeout(timer);
    release();
  }
}

/** Throws `ProvisionError` if the file's sha256 differs from the pinned one. */
export async function verifySha256(file: string, expected: string): Promise<void> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: READ_BYTES }), hash);
  const found = hash.digest('hex');
  if (found === expected) return;
  throw new ProvisionError(
    `${path.basename(file)} is not the pinned file: its sha256 is ${found}, expected ${expected}.`,
    { file, found, expected },
    'It was changed or damaged on the way: check the mirror or proxy that pip or Maven uses.',
  );
}

/** Kills the client's group when this process ends; returns a function that cancels this. */
function endWithUs(pid: number | undefined): () => void {
  const onExit = () => killGroup(pid);
  const onSignal = (signal: NodeJS.Signals): void => {
    killGroup(pid);
    release();
    // Without another handler, the signal keeps its usual effect.
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
  };
  const release = (): void => {
    process.off('exit', onExit);
    for (const signal of SIGNALS) process.off(signal, onSignal);
  };
  process.once('exit', onExit);
  for (const signal of SIGNALS) process.once(signal, onSignal);
  return release;
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has already ended.
  }
}
