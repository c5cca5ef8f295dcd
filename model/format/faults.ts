/** Reasons why a model's files cannot be used; retrying never helps (schemas/failures.ts). */
import { ErrataFailure } from '../../schemas/failures.ts';

/** `place` is the file, folder or model that is at fault. */
export abstract class CheckpointFault extends ErrataFailure {
  constructor(place: string, fault: string, hint: string, options?: ErrorOptions) {
    super(`${place}: ${fault}. ${hint}.`, { place, fault }, hint, options);
  }
}

/** The files are missing, cut short, or contradict themselves. */
export class UnreadableCheckpoint extends CheckpointFault {
  override readonly name = 'UnreadableCheckpoint';
}

/** The files are sound, but ask for something this project does not do. */
export class UnsupportedCheckpoint extends CheckpointFault {
  override readonly name = 'UnsupportedCheckpoint';
}

/** The files lack a tensor that the architecture needs or the caller named. */
export class MissingTensor extends CheckpointFault {
  override readonly name = 'MissingTensor';
}
