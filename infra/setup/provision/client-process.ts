/**
 * Runs the ordinary clients of the package registries (pip, Maven) and the C++ compiler: bounded in
 * time, quiet unless they fail, and ended with us if we are asked to end.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';

/** A step of the set-up failed; what was installed before it stays, and a new start resumes there. */
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
  /** Called for each line of its output. */
  readonly onLine?: (line: string) => void;
  /** What the user can do if it fails. */
  readonly hint: string;
}

/**
 * Resolves to the client's output; throws `ProvisionError` with its end if it fails or takes longer
 * than `waitMs`.
 */
export async function runClient(command: ClientCommand): Promise<string> {
  const child = spawn(command.executable, command.args, {
    cwd: command.folder,
    env: command.environment ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own, so that what the client starts ends with it.
    detached: true,
  });
  const stopEnding = endWithUs(child.pid);
  let output = '';
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    killGroup(child.pid);
  }, command.waitMs);
  const take = (chunk: Buffer): void => {
    const text = chunk.toString();
    output = (output + text).slice(-OUTPUT_CHARACTERS_MAX);
    if (command.onLine !== undefined) for (const line of text.split('\n')) command.onLine(line);
  };
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  try {
    const failure = await new Promise<string | undefined>((resolve) => {
      child.once('error', (error) => {
        resolve(error.message);
      });
      child.once('close', (code, signal) => {
        resolve(code === 0 ? undefined : `it ended with ${signal ?? `code ${String(code)}`}`);
      });
    });
    if (failure === undefined) return output;
    const reason = timedOut ? `it took longer than ${command.waitMs / 1000} s` : failure;
    throw new ProvisionError(
      `${command.executable} failed: ${reason}.\n${output.trim()}`,
      { executable: command.executable, args: command.args, reason },
      command.hint,
    );
  } finally {
    clearTimeout(timer);
    stopEnding();
  }
}

const OUTPUT_CHARACTERS_MAX = 4_000;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

function endWithUs(pid: number | undefined): () => void {
  const onExit = (): void => {
    killGroup(pid);
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    killGroup(pid);
    stop();
    // Without a handler of anybody else's, the signal means what it always means.
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
  };
  const stop = (): void => {
    process.off('exit', onExit);
    for (const signal of SIGNALS) process.off(signal, onSignal);
  };
  process.once('exit', onExit);
  for (const signal of SIGNALS) process.once(signal, onSignal);
  return stop;
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

/** Throws `ProvisionError` unless the file's sha256 is the pinned one. */
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

const READ_BYTES = 1 << 20;
