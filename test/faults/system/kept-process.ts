/** One of our processes, restarted whenever it ends, as by a supervisor. */
import { spawn, type ChildProcess } from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { PROJECT_ROOT } from '../../../infra/config/home.ts';
import type { SupervisorMessage } from '../../../infra/local/supervisor-messages.ts';

export const PROCESS_NAMES = ['ingest', 'workflow-worker', 'edit-worker', 'serve'] as const;
export type ProcessName = (typeof PROCESS_NAMES)[number];

const START_AGAIN_MS = 300;
const FIRST_STARTS_MAX = 3;
const LOG_TAIL_CHARACTERS = 2_000;

export interface KeptProcessOptions {
  environment: NodeJS.ProcessEnv;
  /** A module loaded before the program, in the form that `--import` takes. */
  preload: string;
  logFolder: string;
}

export class KeptProcess {
  readonly name: ProcessName;
  readonly #options: KeptProcessOptions;
  #child: ChildProcess | null = null;
  readonly #log: string;
  #kept = false;
  #wasReady = false;
  #ready: Promise<void> = Promise.resolve();
  #becomeReady: () => void = () => undefined;
  #ended: Promise<void> = Promise.resolve();
  /** The port of `serve`, once it is ready. */
  port: number | null = null;
  starts = 0;

  constructor(name: ProcessName, options: KeptProcessOptions) {
    this.name = name;
    this.#options = options;
    this.#log = path.join(options.logFolder, `${name}.log`);
    this.#unready();
    process.once('exit', () => this.#child?.kill('SIGKILL'));
  }

  start(): void {
    if (this.#kept) return;
    this.#kept = true;
    this.#spawn();
  }

  /**
   * Resolves when the process is ready, after any number of starts; rejects if the first few all
   * fail.
   */
  async ready(): Promise<void> {
    for (let ready = this.#ready; ; ready = this.#ready) {
      await ready;
      if (ready === this.#ready) return;
      if (!this.#wasReady && this.starts >= FIRST_STARTS_MAX)
        throw new Error(`${this.name} does not start:\n${this.#logTail()}`);
    }
  }

  /** Signals the process if it is running. */
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Keeps the process stopped until the next `start`. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.#kept = false;
    // A paused process would not receive the other signal.
    this.signal('SIGCONT');
    this.signal(signal);
    await this.#ended;
  }

  #spawn(): void {
    const { environment, preload } = this.#options;
    const child = spawn(
      process.execPath,
      [
        '--import',
        preload,
        '--import',
        import.meta.resolve('tsx'),
        path.join(PROJECT_ROOT, 'infra', 'processes', `${this.name}.ts`),
      ],
      { env: environment, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] },
    );
    this.#child = child;
    this.starts++;
    const log = this.#log;
    for (const stream of [child.stdout!, child.stderr!])
      stream.on('data', (text: Buffer) => appendFileSync(log, text));
    child.on('message', (announcement: SupervisorMessage) => {
      if (announcement.kind !== 'ready') return;
      this.#wasReady = true;
      this.port = announcement.port ?? null;
      this.#becomeReady();
    });
    this.#ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        appendFileSync(log, `--- ended: ${code ?? signal}\n`);
        this.#child = null;
        this.#unready();
        resolve();
        if (this.#kept)
          setTimeout(() => this.#kept && this.#child === null && this.#spawn(), START_AGAIN_MS);
      });
    });
  }

  #logTail(): string {
    return readFileSync(this.#log, 'utf8').slice(-LOG_TAIL_CHARACTERS);
  }

  #unready(): void {
    this.port = null;
    const waiting = this.#becomeReady;
    this.#ready = new Promise((resolve) => (this.#becomeReady = resolve));
    // Waiters for this start wait for the next one.
    waiting();
  }
}
