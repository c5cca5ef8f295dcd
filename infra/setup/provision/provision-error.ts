/**
 * A step of the set-up failed. What was installed before stays; starting the set-up again goes on
 * from there.
 */
export class ProvisionError extends Error {
  override readonly name = 'ProvisionError';
  constructor(
    message: string,
    readonly facts: Record<string, unknown>,
    readonly hint: string,
  ) {
    super(`${message}\n${hint}`);
  }
}
