/** Reasons that a model's files cannot be used. Retrying never helps (schemas/failures.ts). */
import { ErrataFailure } from '../../schemas/failures.ts';

/** `place` is the faulty file, folder or model. */
export abstract class CheckpointFault extends ErrataFailure {
  constructor(place: string, fault: string, hint: string, options?: ErrorOptions) {
    super(`${place}: ${fault}. ${hint}.`, { place, fault }, hint, options);
  }
}

/** The files are missing, truncated or contradictory. */
export class UnreadableCheckpoint extends CheckpointFault {
  override readonly name = 'UnreadableCheckpoint';
}

/** The files are valid, but need something that this project does not support. */
export class UnsupportedCheckpoint extends CheckpointFault {
  override readonly name = 'UnsupportedCheckpoint';
}

/** The files lack a tensor that the architecture needs or the caller named. */
export class MissingTensor extends CheckpointFault {
  override readonly name = 'MissingTensor';
}
