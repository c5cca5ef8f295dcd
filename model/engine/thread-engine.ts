/**
 * The engine in a thread of its own: TensorFlow's calls are synchronous, and a process that answers
 * heartbeats and requests must keep its event loop free.
 */
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { Engine } from './engine.ts';
import type { EngineOptions, LoadProgress } from './loaded-model.ts';
import { ModelQueue } from './model-queue.ts';
import { setTensorFlowEnvironment } from '../tensor/tensorflow.ts';

type EngineMethod = Exclude<keyof Engine, 'queue'>;

/** A call, as it is sent to the thread. */
export interface EngineCall {
  id: number;
  method: EngineMethod;
  arguments: unknown[];
}

/** A reply of the thread: news while a call runs, then its end. */
export type EngineReply =
  | { kind: 'loading'; step: string; share: number }
  | { kind: 'ready' }
  | { kind: 'failed'; error: ThrownInThread }
  | { kind: 'news'; id: number; news: unknown }
  | { kind: 'result'; id: number; result: unknown }
  | { kind: 'error'; id: number; error: ThrownInThread };

export interface ThrownInThread {
  name: string;
  message: string;
  stack: string | undefined;
  facts: Record<string, unknown>;
}

/** The engine's thread is gone with all that it held: the process should end and start anew. */
export class EngineLost extends Error {
  override readonly name = 'EngineLost';
  constructor(cause: string) {
    super(`the engine's thread ended: ${cause}`);
  }
}

export class ThreadEngine implements Engine {
  private readonly pending = new Map<
    number,
    {
      resolve: (result: never) => void;
      reject: (error: Error) => void;
      news: ((news: never) => void) | undefined;
    }
  >();
  readonly queue = new ModelQueue();
  private calls = 0;
  private lost: EngineLost | null = null;
  private closing = false;
  /** Settles with the reason when the thread ends without `close`. */
  readonly ended: Promise<EngineLost>;

  private constructor(private readonly worker: Worker) {
    this.ended = new Promise((resolve) => {
      const lose = (cause: string) => {
        this.lost ??= new EngineLost(cause);
        for (const { reject } of this.pending.values()) reject(this.lost);
        this.pending.clear();
        if (!this.closing) resolve(this.lost);
      };
      worker.on('error', (error: unknown) =>
        lose(error instanceof Error ? error.message : String(error)),
      );
      worker.on('exit', (code) => lose(`exit code ${code}`));
    });
    worker.on('message', (reply: EngineReply) => this.take(reply));
  }

  /** Starts the thread and loads the engine there. Throws what loading threw. */
  static async open(options: EngineOptions, progress?: LoadProgress): Promise<ThreadEngine> {
    setTensorFlowEnvironment();
    const worker = new Worker(
      fileURLToPath(new URL('./engine-thread-start.mjs', import.meta.url)),
      { workerData: options },
    );
    await new Promise<void>((resolve, reject) => {
      const hear = (reply: EngineReply) => {
        if (reply.kind === 'loading') progress?.(reply.step, reply.share);
        if (reply.kind !== 'ready' && reply.kind !== 'failed') return;
        worker.off('message', hear);
        if (reply.kind === 'ready') resolve();
        else reject(rebuilt(reply.error));
      };
      worker.on('message', hear);
      worker.once('error', reject);
      worker.once('exit', (code) => reject(new EngineLost(`exit code ${code} while loading`)));
    }).catch(async (error: unknown) => {
      await worker.terminate();
      throw error;
    });
    return new ThreadEngine(worker);
  }

  describe: Engine['describe'] = () => this.call('describe', []);
  holds: Engine['holds'] = (hookId) => this.call('holds', [hookId]);
  holdHook: Engine['holdHook'] = (...given) => this.inTurn('holdHook', given);
  computeTargets: Engine['computeTargets'] = (hookId, requests, progress) =>
    this.inTurn('computeTargets', [hookId, requests], progress);
  deriveUpdate: Engine['deriveUpdate'] = (...given) => this.inTurn('deriveUpdate', given);
  probe: Engine['probe'] = (...given) => this.inTurn('probe', given);
  canary: Engine['canary'] = (...given) => this.inTurn('canary', given);
  generate: Engine['generate'] = (hookId, prompt, options, onToken) =>
    this.inTurn('generate', [hookId, prompt, options], onToken);

  async close(): Promise<void> {
    this.closing = true;
    if (this.lost === null) await this.call('close', []).catch(() => undefined);
    await this.worker.terminate();
  }

  private inTurn<Result>(
    method: EngineMethod,
    given: unknown[],
    news?: (news: never) => void,
  ): Promise<Result> {
    return this.queue.call(() => this.call(method, given, news));
  }

  private call<Result>(
    method: EngineMethod,
    given: unknown[],
    news?: (news: never) => void,
  ): Promise<Result> {
    if (this.lost !== null) return Promise.reject(this.lost);
    const id = ++this.calls;
    return new Promise<Result>((resolve, reject) => {
      this.pending.set(id, { resolve, reject, news });
      this.worker.postMessage({ id, method, arguments: given } satisfies EngineCall);
    });
  }

  private take(reply: EngineReply): void {
    if (!('id' in reply)) return;
    const waiting = this.pending.get(reply.id);
    if (waiting === undefined) return;
    if (reply.kind === 'news') {
      waiting.news?.(reply.news as never);
      return;
    }
    this.pending.delete(reply.id);
    if (reply.kind === 'result') waiting.resolve(reply.result as never);
    else waiting.reject(rebuilt(reply.error));
  }
}

/** The error with the name, message and facts that it had in the thread. */
function rebuilt(thrown: ThrownInThread): Error {
  const error = Object.assign(new Error(thrown.message), thrown.facts);
  Object.defineProperty(error, 'name', { value: thrown.name });
  if (thrown.stack !== undefined) error.stack = thrown.stack;
  return error;
}
