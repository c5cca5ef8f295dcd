/** The two calls of an edit: from corrections to targets, then from targets to pairs. */
import type { Refusal } from '../../schemas/editing.ts';
import { findTargets } from '../editing/targets.ts';
import { derivePairs } from '../editing/update.ts';
import type {
  ComputedTargets,
  DerivedUpdate,
  EditRequest,
  PairSet,
  TargetProgress,
  Targets,
} from '../engine-types.ts';
import type { HookCache } from '../hook/hook-cache.ts';
import type { Hook } from '../hook/hook.ts';
import { frontTokens, isRefusal, readEdit, type EditSequence } from '../network/sequences.ts';
import { NotPositiveDefinite } from '../tensor/float64.ts';
import type { LoadedModel } from './loaded-model.ts';

export interface HeldHook {
  hook: Hook | null;
  pairs: PairSet | null;
}

/** Lets this thread's event loop run. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export async function computeTargets(
  loaded: LoadedModel,
  hook: Hook | null,
  requests: readonly EditRequest[],
  progress?: (progress: TargetProgress) => void,
): Promise<ComputedTargets> {
  const { model, checkpoint, statistics, parameters } = loaded;
  const { edits, refused } = readEdits(loaded, requests);
  if (edits.length === 0)
    return {
      targets: { ids: [], values: new Float32Array(0) },
      accepted: [],
      refused,
      seconds: {},
    };
  const found = await findTargets([...edits, ...alongside(loaded, requests)], {
    model,
    tokenizer: checkpoint.tokenizer,
    hook,
    parameters,
    front: frontTokens(checkpoint.tokenizer),
    contexts: statistics.contexts,
    progress: async (state) => {
      progress?.(state);
      await breathe();
    },
  });
  const D = model.config.residualWidth;
  const valueOf = (row: number) => found.values.subarray(row * D, (row + 1) * D);
  const sound: number[] = [];
  edits.forEach(({ id }, i) => {
    const loss = found.losses[i]!;
    if (Number.isFinite(loss) && valueOf(i).every(Number.isFinite)) sound.push(i);
    else refused.push(notFinite(id, loss));
  });
  const values = new Float32Array(sound.length * D);
  sound.forEach((i, row) => values.set(valueOf(i), row * D));
  return {
    targets: { ids: sound.map((i) => edits[i]!.id), values },
    accepted: sound.map((i) => ({
      id: edits[i]!.id,
      loss: found.losses[i]!,
      steps: found.steps[i]!,
    })),
    refused,
    seconds: found.seconds,
  };
}

function notFinite(id: string, loss: number): Refusal {
  const reason = 'the search for its target diverged';
  return { id, code: 'not-finite', reason, measured: { loss: String(loss) } };
}

export async function deriveUpdate(
  loaded: LoadedModel,
  { hook, pairs: earlier, cache }: HeldHook & { cache: HookCache },
  requests: readonly EditRequest[],
  targets: Targets,
): Promise<DerivedUpdate> {
  const { model, priors, checkpoint, statistics, parameters } = loaded;
  const byId = new Map(requests.map((request) => [request.id, request]));
  const asked = targets.ids.map((id) => {
    const request = byId.get(id);
    if (request === undefined) throw new Error(`there is a target for ${id}, but no request`);
    return request;
  });
  const { edits, refused } = readEdits(loaded, asked);
  const nothing = { ids: [], pairs: emptyPairs(loaded), refused, seconds: {} };
  if (edits.length === 0) return nothing;
  const D = model.config.residualWidth;
  const rowOf = new Map(targets.ids.map((id, row) => [id, row]));
  const values = new Float32Array(edits.length * D);
  edits.forEach(({ id }, i) => {
    const row = rowOf.get(id)!;
    values.set(targets.values.subarray(row * D, (row + 1) * D), i * D);
  });
  try {
    const { pairs, seconds } = await derivePairs(edits, values, {
      model,
      priors,
      hook,
      pairs: earlier,
      front: frontTokens(checkpoint.tokenizer),
      contexts: statistics.contexts,
      gate: parameters.gate,
      cache,
      between: breathe,
    });
    return { ids: edits.map(({ id }) => id), pairs, refused, seconds };
  } catch (error) {
    if (!(error instanceof NotPositiveDefinite)) throw error;
    const { message: reason, facts: measured } = error;
    const singular = edits.map(({ id }): Refusal => ({
      id,
      code: 'singular-update',
      reason,
      measured,
    }));
    return { ...nothing, refused: [...refused, ...singular] };
  }
}

function emptyPairs({ model, parameters: { layers } }: LoadedModel): PairSet {
  return {
    layers,
    count: 0,
    subjects: [],
    spellings: [],
    keyWidth: model.config.mlpWidth,
    valueWidth: model.config.residualWidth,
    keys: layers.map(() => new Float32Array(0)),
    changes: layers.map(() => new Float32Array(0)),
  };
}

/** Returns the other facts about the requests' subjects, each once. Unreadable ones are omitted. */
function alongside(loaded: LoadedModel, requests: readonly EditRequest[]): EditSequence[] {
  const facts = new Map<string, EditRequest>();
  for (const { subject, alongside: others = [] } of requests)
    for (const { prompt, target } of others) {
      const id = JSON.stringify([subject, prompt]);
      facts.set(id, { id, subject, prompt, target });
    }
  return readEdits(loaded, [...facts.values()]).edits;
}

function readEdits(
  { checkpoint: { tokenizer }, model, statistics, parameters }: LoadedModel,
  requests: readonly EditRequest[],
): { edits: EditSequence[]; refused: Refusal[] } {
  const { contextMax } = model.config;
  const longestContext = Math.max(0, ...statistics.contexts.map(({ length }) => length));
  const limits = {
    targetTokensMax: parameters.targetTokensMax,
    promptTokensMax: Math.floor(contextMax / 2),
    togetherTokensMax: contextMax - frontTokens(tokenizer).length - longestContext,
  };
  const read = requests.map((request) => readEdit(tokenizer, request, limits));
  return {
    edits: read.filter((one): one is EditSequence => !isRefusal(one)),
    refused: read.filter(isRefusal),
  };
}
