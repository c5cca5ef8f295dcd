/** One of our processes as a child of a test: started as by the supervisor, killed at will. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { PROJECT_ROOT } from '../../infra/config/home.ts';
import { afterwards } from './clean-up.ts';

export type ProcessName = 'ingest' | 'workflow-worker' | 'edit-worker' | 'serve';

export class OurProcess {
  readonly #name: ProcessName;
  readonly #environment: NodeJS.ProcessEnv;
  readonly #logFile: string;
  #child: ChildProcess | null = null;

  /** `environment` is added to this process's own; the log is `folder`/<name>.log. */
  constructor(name: ProcessName, environment: NodeJS.ProcessEnv, folder: string) {
    this.#name = name;
    this.#environment = { ...process.env, ...environment };
    this.#logFile = path.join(folder, `${name}.log`);
    process.once('exit', () => this.#child?.kill('SIGKILL'));
    afterwards(() => this.kill());
  }

  get log(): string {
    return readFileSync(this.#logFile, 'utf8');
  }

  /** Resolves when the process reports that it is ready; rejects with its log if it ends first. */
  async start(): Promise<void> {
    const program = path.join(PROJECT_ROOT, 'infra', 'processes', `${this.#name}.ts`);
    const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), program], {
      env: this.#environment,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.#child = child;
    let output = '';
    for (const stream of [child.stdout!, child.stderr!])
      stream.on('data', (text: Buffer) => {
        output += text.toString();
        appendFileSync(this.#logFile, text);
      });
    await new Promise<void>((resolve, reject) => {
      child.on('message', (message: { kind: string; reason?: string }) => {
        if (message.kind === 'ready') resolve();
        if (message.kind === 'refused') output += `refused: ${message.reason}\n`;
      });
      child.once('exit', (code, signal) => {
        const end = `${this.#name} ended (${code ?? signal}) before it was ready`;
        reject(new Error(`${end}:\n${output}`));
      });
    });
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Asks the process to stop; resolves to its exit code. */
  async stop(): Promise<number | null> {
    return await this.#end('SIGTERM');
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    if (child === null || child.exitCode !== null) return child?.exitCode ?? null;
    const ended = once(child, 'exit');
    child.kill(signal);
    const [code] = (await ended) as [number | null];
    this.#child = null;
    return code;
  }
}
