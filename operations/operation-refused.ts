import { ErrataFailure } from '../schemas/failures.ts';

/** The operation is impossible as requested; the hint names an alternative. */
export class OperationRefused extends ErrataFailure {
  override readonly name = 'OperationRefused';
  constructor(message: string, hint: string) {
    super(message, {}, hint);
  }
}
