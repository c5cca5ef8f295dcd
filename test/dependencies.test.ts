/**
 * Compares the installed packages with the advisories in docs/security.md. `npm audit` needs a
 * network service; this test does not. It catches a dropped override or an update that restores an
 * old copy, but not a newer advisory.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { PROJECT_ROOT } from '../infra/config/home.ts';

/**
 * The first version of each package and major version without a known advisory; without a major,
 * all earlier versions have one.
 */
const FIRST_SOUND: [name: string, major: number | null, version: string][] = [
  ['@grpc/grpc-js', null, '1.14.4'],
  ['@temporalio/worker', null, '1.20.1'],
  ['adm-zip', null, '0.6.1'],
  ['ajv', 6, '6.14.0'],
  ['ajv', 8, '8.18.0'],
  ['brace-expansion', 1, '1.1.18'],
  ['brace-expansion', 5, '5.0.9'],
  ['esbuild', null, '0.28.1'],
  ['fast-uri', 3, '3.1.6'],
  ['fastify', null, '5.8.5'],
  ['form-data', null, '4.0.4'],
  ['https-proxy-agent', null, '2.2.3'],
  ['nanoid', 3, '3.3.18'],
  ['node-fetch', null, '2.6.7'],
  ['picomatch', 4, '4.0.4'],
  ['protobufjs', 7, '7.5.6'],
  ['protobufjs', 8, '8.0.1'],
  ['tar', null, '7.5.19'],
  ['vega-expression', null, '6.1.0'],
  ['vega-functions', null, '6.1.1'],
  ['vega-selections', null, '6.1.2'],
  ['vite', 8, '8.0.5'],
  ['yauzl', null, '3.2.1'],
];

const locked = (
  JSON.parse(readFileSync(path.join(PROJECT_ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { version?: string; resolved?: string }>;
  }
).packages;
const copiesOf = (name: string): string[] =>
  Object.entries(locked).flatMap(([place, { version }]) =>
    place.endsWith(`node_modules/${name}`) && version !== undefined ? [version] : [],
  );
const numbers = (version: string): number[] => version.split(/[.-]/).slice(0, 3).map(Number);
const isBelow = (a: string, b: string): boolean => {
  const place = numbers(a).findIndex((part, i) => part !== numbers(b)[i]);
  return place !== -1 && numbers(a)[place]! < numbers(b)[place]!;
};

it.each(FIRST_SOUND)('no copy of %s (%s) is older than %s', (name, major, version) => {
  const copies = copiesOf(name).filter((copy) => major === null || numbers(copy)[0] === major);
  expect(copies).not.toEqual([]);
  expect(copies.filter((copy) => isBelow(copy, version))).toEqual([]);
});

it('versions are compared as numbers', () => {
  expect(isBelow('7.5.9', '7.5.19')).toBe(true);
  expect(isBelow('7.5.19', '7.5.19')).toBe(false);
  expect(isBelow('8.0.0', '7.5.19')).toBe(false);
});

it('the lock file identifies packages without the address they came from', () => {
  expect(Object.values(locked).filter(({ resolved }) => resolved !== undefined)).toEqual([]);
});
