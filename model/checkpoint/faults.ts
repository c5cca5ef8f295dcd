/** Why a checkpoint cannot be used. None of these passes by itself (schemas/failures.ts). */
import { ErrataFailure, type FailureFacts } from '../../schemas/failures.ts';

export abstract class CheckpointFault extends ErrataFailure {
  constructor(message: string, facts: FailureFacts, hint: string, options?: ErrorOptions) {
    super(`${message}. ${hint}.`, facts, hint, options);
  }
}

/** The files are not there, are cut short, or contradict themselves. */
export class UnreadableCheckpoint extends CheckpointFault {
  override readonly name = 'UnreadableCheckpoint';
}

/** The files are sound, but ask for something this project does not do. */
export class UnsupportedCheckpoint extends CheckpointFault {
  override readonly name = 'UnsupportedCheckpoint';
}

/** A tensor the architecture needs, or the caller asked for, is not in the files. */
export class MissingTensor extends CheckpointFault {
  override readonly name = 'MissingTensor';
}
