/**
 * The loaded model: an asynchronous interface over plain data. The same calls work in one thread
 * (tests, benchmarks) and across a thread boundary (edit worker, serve), where the model has its
 * own thread and the process's event loop stays free.
 *
 * Hooks are held by name. A hook is a pure function of the base model and a set of pairs, so a name
 * always stands for the same set of pairs. The engine keeps the last few (`HOOKS_HELD_MAX`) and
 * evicts the oldest. `null` names the base model.
 */
import type {
  CanaryReading,
  ComputedTargets,
  DerivedUpdate,
  EditRequest,
  EngineDescription,
  GenerateOptions,
  GeneratedToken,
  Generation,
  HookReport,
  PairSet,
  Probe,
  ProbeAnswer,
  TargetProgress,
  Targets,
} from '../engine-types.ts';
import type { ModelQueue } from './model-queue.ts';

export const HOOKS_HELD_MAX = 4;

/** Number of shut gates that a generation reports. */
export const SHUT_GATES_MAX = 64;

export interface Engine {
  /** Callers that share the engine take turns. A call outside a turn waits for its own. */
  readonly queue: ModelQueue;
  describe(): Promise<EngineDescription>;
  /** Counts as a use of the hook. */
  holds(hookId: string): Promise<boolean>;
  /** Builds the hook of these pairs and keeps it under the name. */
  holdHook(hookId: string, pairs: PairSet): Promise<HookReport>;
  /** Finds the targets z [n, D] at the last edited block, each on top of the given hook alone. */
  computeTargets(
    hookId: string | null,
    requests: EditRequest[],
    progress?: (progress: TargetProgress) => void,
  ): Promise<ComputedTargets>;
  /** Derives the pairs that make the hook produce the targets of `targets.ids`. */
  deriveUpdate(
    hookId: string | null,
    requests: EditRequest[],
    targets: Targets,
  ): Promise<DerivedUpdate>;
  probe(hookId: string | null, probes: Probe[]): Promise<ProbeAnswer[]>;
  /** Measures perplexity on the canary text, and how often gates open on it. */
  canary(hookId: string | null): Promise<CanaryReading>;
  generate(
    hookId: string | null,
    prompt: string,
    options: GenerateOptions,
    onToken?: (token: GeneratedToken) => void,
  ): Promise<Generation>;
  close(): Promise<void>;
}
