import { ErrataFailure } from '../schemas/failures.ts';

/** An operation cannot be done as it was asked for; the hint says what can be done. */
export class OperationRefused extends ErrataFailure {
  override readonly name = 'OperationRefused';
  constructor(message: string, hint: string) {
    super(message, {}, hint);
  }
}
