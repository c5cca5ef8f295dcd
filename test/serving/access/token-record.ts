import { digestOf, newToken, type TokenRecord } from '../../../serving/access/access.ts';

export const recordOf = (token: string, more: Partial<TokenRecord> = {}): TokenRecord => ({
  name: 'reader',
  sha256: digestOf(token),
  roles: ['read'],
  createdAt: '2026-01-01T00:00:00Z',
  ...more,
});

/** The record of a token that nobody has. */
export const recordNamed = (name: string): TokenRecord => recordOf(newToken(), { name });
