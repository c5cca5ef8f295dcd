/**
 * The engine in its own thread. TensorFlow's calls are synchronous, and a process that answers
 * heartbeats and requests must keep its event loop free.
 */
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { messageOf } from '../../schemas/failures.ts';
import type { Engine } from './engine.ts';
import type { EngineOptions, LoadProgress } from './loaded-model.ts';
import { ModelQueue } from './model-queue.ts';
import { setTensorFlowEnvironment } from '../tensor/tensorflow.ts';

type EngineMethod = Exclude<keyof Engine, 'queue'>;

/** A call as sent to the thread. */
export interface EngineCall {
  id: number;
  method: EngineMethod;
  arguments: unknown[];
  /** True if the method's last argument is a function, which stays with the caller. */
  hearsNews: boolean;
}

/** A reply of the thread: news while a call runs, then its end. */
export type EngineReply =
  | { kind: 'news'; id: number; news: unknown[] }
  | { kind: 'result'; id: number; result: unknown }
  | { kind: 'error'; id: number; error: ThrownInThread };

export interface ThrownInThread {
  name: string;
  message: string;
  stack: string | undefined;
  facts: Record<string, unknown>;
}

/** Number of the call that represents the start of the thread. Its news is the loading progress. */
export const OPENING = 0;

/** The engine's thread died with everything it held. The process should exit and restart. */
export class EngineLost extends Error {
  override readonly name = 'EngineLost';
  constructor(cause: string) {
    super(`the engine's thread ended: ${cause}`);
  }
}

type Listener = ((...news: unknown[]) => void) | undefined;

interface Pending {
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
  news: Listener;
}

export class ThreadEngine implements Engine {
  readonly queue = new ModelQueue();
  private readonly pending = new Map<number, Pending>();
  private calls = OPENING;
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
      worker.on('error', (error: unknown) => lose(messageOf(error)));
      worker.on('exit', (code) => lose(`exit code ${code}`));
    });
    worker.on('message', (reply: EngineReply) => this.take(reply));
  }

  /** Starts the thread and loads the engine in it. Throws what loading threw. */
  static async open(options: EngineOptions, progress?: LoadProgress): Promise<ThreadEngine> {
    setTensorFlowEnvironment();
    const start = fileURLToPath(new URL('./engine-thread-start.mjs', import.meta.url));
    const engine = new ThreadEngine(new Worker(start, { workerData: options }));
    try {
      await engine.endOf(OPENING, progress as Listener);
      return engine;
    } catch (error) {
      await engine.worker.terminate();
      throw error;
    }
  }

  describe = this.remote('describe');
  holds = this.remote('holds');
  holdHook = this.inTurn('holdHook');
  computeTargets = this.inTurn('computeTargets');
  deriveUpdate = this.inTurn('deriveUpdate');
  probe = this.inTurn('probe');
  canary = this.inTurn('canary');
  generate = this.inTurn('generate');

  async close(): Promise<void> {
    this.closing = true;
    if (this.lost === null) await this.remote('close')().catch(() => undefined);
    await this.worker.terminate();
  }

  private inTurn<Method extends EngineMethod>(method: Method): Engine[Method] {
    const call = this.remote(method) as (...given: unknown[]) => Promise<unknown>;
    return ((...given: unknown[]) => this.queue.call(() => call(...given))) as Engine[Method];
  }

  private remote<Method extends EngineMethod>(method: Method): Engine[Method] {
    return (async (...given: unknown[]) => {
      if (this.lost !== null) throw this.lost;
      const id = ++this.calls;
      const hearsNews = typeof given.at(-1) === 'function';
      const news = hearsNews ? (given.pop() as Listener) : undefined;
      this.worker.postMessage({ id, method, arguments: given, hearsNews } satisfies EngineCall);
      return this.endOf(id, news);
    }) as Engine[Method];
  }

  private endOf(id: number, news: Listener): Promise<unknown> {
    return new Promise((resolve, reject) => this.pending.set(id, { resolve, reject, news }));
  }

  private take(reply: EngineReply): void {
    const waiting = this.pending.get(reply.id);
    if (reply.kind === 'news') {
      waiting?.news?.(...reply.news);
      return;
    }
    this.pending.delete(reply.id);
    if (reply.kind === 'result') waiting?.resolve(reply.result);
    else waiting?.reject(rebuilt(reply.error));
  }
}

/** Rebuilds an error with the name, message and facts that it had in the thread. */
function rebuilt({ name, message, stack, facts }: ThrownInThread): Error {
  const error = Object.assign(new Error(message), facts);
  Object.defineProperty(error, 'name', { value: name });
  if (stack !== undefined) error.stack = stack;
  return error;
}
