/**
 * One of our processes as a child of a test: started as the supervisor starts it, killed as nobody
 * wants it to be.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync } from 'node:fs';
import path from 'node:path';
import { PROJECT_ROOT } from '../../infra/config/home.ts';

export class OurProcess {
  readonly #name: string;
  readonly #environment: NodeJS.ProcessEnv;
  readonly #log: string;
  #child: ChildProcess | null = null;

  constructor(
    name: 'ingest' | 'workflow-worker' | 'edit-worker' | 'serve',
    environment: NodeJS.ProcessEnv,
    folder: string,
  ) {
    this.#name = name;
    this.#environment = environment;
    this.#log = path.join(folder, `${name}.log`);
    process.once('exit', () => this.#child?.kill('SIGKILL'));
  }

  /** Resolves when it says that it is ready; rejects with its log when it ends before. */
  async start(): Promise<void> {
    const child = spawn(
      process.execPath,
      [
        '--import',
        import.meta.resolve('tsx'),
        path.join(PROJECT_ROOT, 'infra', 'processes', `${this.#name}.ts`),
      ],
      {
        env: this.#environment,
        stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      },
    );
    this.#child = child;
    let output = '';
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on('data', (text: Buffer) => {
        output += text.toString();
        appendFileSync(this.#log, text);
      });
    }
    await new Promise<void>((resolve, reject) => {
      child.on('message', (message) => {
        const announced = message as { kind: string; reason?: string };
        if (announced.kind === 'ready') resolve();
        if (announced.kind === 'refused') output += `refused: ${announced.reason}\n`;
      });
      child.once('exit', (code, signal) =>
        reject(
          new Error(`${this.#name} ended (${code ?? signal}) before it was ready:\n${output}`),
        ),
      );
    });
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** The code that it ends with when it is told to stop. */
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
