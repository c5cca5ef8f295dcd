/** The forms of a prompt that the search for targets reads: 0 is bare, i is behind context i. */
import type { HyperParameters } from '../../schemas/hyper-parameters.ts';

type FormParameters = Pick<HyperParameters, 'contexts' | 'contextsPerStep'>;

/** Number of contexts to alternate between. Each costs a pass over every prompt before step 1. */
const TURN_CONTEXTS_MAX = 2;
/**
 * Largest number of rows at which both forms are read at once: a step this small costs its kernels
 * more than its rows.
 */
const BOTH_FORMS_ROWS_MAX = 64;

/** Number of forms prepared per prompt, and the most that one step reads. */
export function formsPerPrompt(parameters: FormParameters): { prepared: number; read: number } {
  const { contexts, contextsPerStep } = parameters;
  return {
    prepared: 1 + (takesTurns(parameters) ? Math.min(contexts, TURN_CONTEXTS_MAX) : contexts),
    read: 1 + Math.min(Math.max(1, contextsPerStep), contexts),
  };
}

/** Tells whether the bare prompt and a context alternate, step by step. */
export function takesTurns({ contexts, contextsPerStep }: FormParameters): boolean {
  return contextsPerStep === 0 && contexts > 0;
}

/**
 * Chooses the forms read in a step: the bare prompt and a few contexts drawn anew (fewer tokens for
 * the same expectation), or the two in turns. `bareRows` counts the rows of the unfinished
 * corrections' bare forms.
 */
export function formsOfStep(
  parameters: FormParameters,
  step: number,
  bareRows: number,
  random: () => number,
): Set<number> {
  const { prepared, read } = formsPerPrompt(parameters);
  const isTurn = takesTurns(parameters) && bareRows > BOTH_FORMS_ROWS_MAX;
  const forms = new Set<number>(isTurn && step % 2 === 0 ? [] : [0]);
  const wanted = isTurn ? 1 : read;
  while (forms.size < wanted) forms.add(1 + Math.floor(random() * (prepared - 1)));
  return forms;
}
