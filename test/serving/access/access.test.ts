import type crypto from 'node:crypto';
import fc from 'fast-check';
import { afterEach, expect, test, vi } from 'vitest';
import {
  digestOf,
  identify,
  isLoopback,
  newToken,
  sourceOf,
  submissionFault,
  tokensFile,
  type Caller,
} from '../../../serving/access/access.ts';
import type { Refusal } from '../../../serving/access/refusals.ts';
import { recordNamed, recordOf } from './token-record.ts';

vi.mock('node:crypto', async (original) => {
  const real = await original<typeof crypto>();
  return { ...real, timingSafeEqual: vi.fn(real.timingSafeEqual) };
});
const { timingSafeEqual } = await import('node:crypto');
afterEach(() => vi.mocked(timingSafeEqual).mockClear());

const NOW = Date.parse('2026-11-26T12:00:00Z');

test('a token is known by its digest, and by nothing near it', () => {
  const token = newToken();
  const tokens = [recordNamed('other'), recordOf(token), recordNamed('third')];
  const found = { name: 'reader', roles: ['read'], lineages: null, subjects: null };
  expect(identify(tokens, `Bearer ${token}`, NOW)).toEqual(found);
  expect(identify(tokens, `bearer  ${token} `, NOW)).toEqual(found);
  const unknown = expect.objectContaining({ code: 'unknown_token' }) as Refusal;
  const swapped = `${token.slice(0, -2)}${token.at(-1)!}${token.at(-2)!}`;
  if (swapped !== token) expect(identify(tokens, `Bearer ${swapped}`, NOW)).toEqual(unknown);
  expect(identify(tokens, `Bearer ${newToken()}`, NOW)).toEqual(unknown);
  expect(identify([], `Bearer ${token}`, NOW)).toEqual(unknown);
});

test('a token is 256 random bits behind a prefix', () => {
  const tokens = new Set(Array.from({ length: 100 }, newToken));
  expect(tokens.size).toBe(100);
  for (const token of tokens) expect(token).toMatch(/^errata_[A-Za-z0-9_-]{43}$/);
});

test('a token is compared with every other in constant time, found or not', () => {
  const token = newToken();
  const tokens = [recordOf(token), ...Array.from({ length: 9 }, (_, i) => recordNamed(`n${i}`))];
  for (const presented of [token, newToken()]) {
    vi.mocked(timingSafeEqual).mockClear();
    identify(tokens, `Bearer ${presented}`, NOW);
    expect(timingSafeEqual).toHaveBeenCalledTimes(10);
  }
});

test('a token is refused from the moment at which it expires', () => {
  const token = newToken();
  const tokens = [recordOf(token, { expiresAt: '2026-11-26T13:00:00+01:00' })];
  expect(identify(tokens, `Bearer ${token}`, NOW - 1)).toMatchObject({ name: 'reader' });
  expect(identify(tokens, `Bearer ${token}`, NOW)).toMatchObject({
    code: 'expired_token',
    message: 'The token expired at 2026-11-26T13:00:00+01:00.',
  });
});

test.each([
  '',
  'Bearer',
  'Bearer ',
  'Basic dXNlcjpwYXNz',
  `Token ${newToken()}`,
  newToken(),
  `Bearer ${newToken()} x`,
  `Bearer ${newToken()}=`,
  `Bearer ${newToken()},Bearer ${newToken()}`,
  `Bearer errata_${'x'.repeat(44)}`,
  `Bearer errata_${'x'.repeat(42)}`,
  `Bearer errata_${'é'.repeat(43)}`,
  `Bearer ${'x'.repeat(10_000)}`,
])('a token is not found in a header such as "%.40s"', (header) => {
  expect(identify([recordOf(newToken())], header, NOW)).toMatchObject({ code: 'malformed_token' });
  expect(timingSafeEqual).not.toHaveBeenCalled();
});

test('a request without a header has no token', () =>
  expect(identify([], undefined, NOW)).toMatchObject({ code: 'no_token' }));

const token = recordOf(newToken());
test.each([
  ['a misspelt bound', { ...token, lineage: ['default'] }],
  ['no role', { ...token, roles: [] }],
  ['an unknown role', { ...token, roles: ['admin'] }],
  ['a name that could end early in a source', { ...token, name: 'a: b' }],
  ['a token instead of its digest', { ...token, sha256: newToken() }],
  ['a malformed lineage', { ...token, lineages: ['../x'] }],
  ['an expiry that is not a time', { ...token, expiresAt: 'soon' }],
])('a tokens file is refused with %s', (_, wrong) =>
  expect(tokensFile.safeParse({ tokens: [wrong] }).success).toBe(false),
);

test('a tokens file in which a name or a digest occurs twice is refused', () => {
  const isSound = (...tokens: object[]) => tokensFile.safeParse({ tokens }).success;
  expect(isSound(token, { ...token, sha256: digestOf('x') })).toBe(false);
  expect(isSound(token, { ...token, name: 'other' })).toBe(false);
  expect(isSound(token, recordNamed('other'))).toBe(true);
});

const caller = (subjects: string[] | null): Caller => ({
  name: 'desk',
  roles: ['submit'],
  lineages: null,
  subjects,
});
const may = (subjects: string[] | null, subject: string, id: string | null = null) =>
  submissionFault(caller(subjects), { subject, id: id ?? 'made-up' }, id !== null) === null;

test.each([
  ['Mira *', 'Mira Kovač', true],
  ['Mira *', 'Mira', false],
  ['Mira *', 'mira Kovač', false],
  ['Mira *', 'Not Mira Kovač', false],
  ['Mira', 'Mira Kovač', false],
  ['*', 'anything', true],
  ['*Lake', 'Great Lake', true],
  ['a*a', 'a', false],
  ['a*b*a', 'aba', true],
  ['a*bb*a', 'aba', false],
  ['.*', 'x', false],
  ['Mira \t  *', 'Mira  Kovač', true],
  ['Müller*', 'Müller', true],
])('the pattern "%s" admits the subject "%s": %s', (pattern, subject, expected) =>
  expect(may([pattern], subject)).toBe(expected),
);

test('a submitter without a bound may submit anything, one with an empty bound nothing', () => {
  expect(may(null, 'x', 'any id')).toBe(true);
  expect(may([], 'x')).toBe(false);
  expect(may(['a', 'x'], 'x')).toBe(true);
});

test('a submitter with a bound may choose only ids that begin with its name', () => {
  expect(may(['x'], 'x', "somebody else's")).toBe(false);
  expect(may(['x'], 'x', 'desk:1')).toBe(true);
  expect(may(['x'], 'x', 'desk2:1')).toBe(false);
});

test('patterns of subjects match as regular expressions would', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '*', 'é'), maxLength: 12 });
  fc.assert(
    fc.property(text, text, (pattern, subject) => {
      const oracle = new RegExp(`^${pattern.split('*').join('[^]*')}$`, 'u');
      expect(may([pattern], subject)).toBe(oracle.test(subject));
    }),
    { numRuns: 2_000 },
  );
});

test("the source begins with the submitter's name, whatever the source says", () => {
  expect(sourceOf(caller(null), 'boss: memo')).toBe('desk: boss: memo');
  expect(sourceOf({ ...caller(null), name: null }, 'boss: memo')).toBe('boss: memo');
});

test.each([
  ['127.0.0.1', true],
  ['127.8.9.1', true],
  ['localhost', true],
  ['LOCALHOST', true],
  ['::1', true],
  ['[::1]', true],
  ['::ffff:127.0.0.1', true],
  ['0.0.0.0', false],
  ['::', false],
  ['10.0.0.1', false],
  ['128.0.0.1', false],
  ['localhost.example.org', false],
  ['127.0.0.1.example.org', false],
  ['example.org', false],
  ['', false],
  ['::ffff:10.0.0.1', false],
] as const)('%s is loopback: %s', (host, expected) => expect(isLoopback(host)).toBe(expected));
