/**
 * Reads settings from the environment and an optional file, and collects all faults. The
 * environment overrides the file, the file overrides the default.
 */
import { closest, distance } from 'fastest-levenshtein';
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { boundedJson, UnsoundJson } from '../../schemas/encoding/bounded-json.ts';
import { excerpt, faultsFound, firstFaults, onOneLine } from '../../schemas/encoding/excerpt.ts';
import { messageOf } from '../../schemas/failures.ts';
import { readSmallFile } from './secret.ts';
import type { Setting } from './settings.ts';

export interface ConfigurationFault {
  /** The environment variable, or `<file>: <path>`. */
  name: string;
  /** The value found; `[secret]` for a secret, null if missing. */
  value: string | null;
  expected: string;
}

/** Bounds on what is read and what is reported. */
export const CONFIGURATION_LIMITS = {
  lineagesMax: 100,
  json: { valuesMax: 10_000, depthMax: 16 },
  noticesMax: 20,
  expectedCharactersMax: 1_000,
} as const;

/** Carries every fault of a configuration; its message lists them all. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
  readonly hint = 'docs/configuration.md lists every setting.';
  constructor(readonly faults: ConfigurationFault[]) {
    const lines = faults.map(({ name, value, expected }) => {
      const found = value === null ? 'is missing' : `is ${excerpt(value)}`;
      return `  ${name} ${found}; expected ${expected}`;
    });
    const count = faults.length === 1 ? 'a fault' : `${faults.length} faults`;
    super(`The configuration has ${count}:\n${lines.join('\n')}`);
  }
}

const DEFAULT_FILE = 'errata.config.json';
const NAME_CHARACTERS_MAX = 200;
const MISSPELT_DISTANCE_MAX = 4;

/** A raw value, before it is checked. */
interface Found {
  name: string;
  value: unknown;
  /** The text for fault messages. */
  shown: string;
  folder: string;
}

export class SettingReader {
  readonly faults: ConfigurationFault[] = [];
  /** Paths of the settings given by the environment or the file. */
  readonly given = new Set<string>();
  readonly #environment: NodeJS.ProcessEnv;
  readonly #workingDirectory: string;
  readonly #file: { name: string; content: Record<string, unknown> } | null;
  readonly #variables = new Set(['ERRATA_CONFIG']);
  readonly #paths = new Set<string>();

  constructor(environment: NodeJS.ProcessEnv, workingDirectory: string) {
    this.#environment = environment;
    this.#workingDirectory = workingDirectory;
    this.#file = this.#readFile();
  }

  /** Returns the value of a setting. A fault is recorded, and the default is used instead. */
  read<T>(setting: Setting<T>, path: string, variable = setting.variable): T {
    this.#variables.add(variable);
    this.#paths.add(path);
    const { form } = setting;
    const found = this.#inEnvironment(setting, variable) ?? this.#inFile(setting, path, variable);
    if (found === null) return setting.default;
    this.given.add(path);
    const { name, value, shown, folder } = found;
    const checked = form.schema.safeParse(value);
    try {
      if (checked.success) return form.finish(checked.data, folder) as T;
      this.fault(name, shown, form.expected + (form.compound ? detailsOf(checked.error) : ''));
    } catch (fault) {
      this.fault(name, messageOf(fault), form.expected);
    }
    return setting.default;
  }

  fault(name: string, value: string | null, expected: string): void {
    this.faults.push({ name, value, expected });
  }

  /** Returns notices about names that look like misspelt settings. */
  notices(): string[] {
    const variables = Object.keys(this.#environment).filter(
      (name) => name.startsWith('ERRATA_') && !this.#variables.has(name),
    );
    const known = (path: string) =>
      [...this.#paths].some((setting) => path === setting || path.startsWith(`${setting}.`));
    const paths = leavesOf(this.#file?.content ?? {}).filter((path) => !known(path));
    const { noticesMax } = CONFIGURATION_LIMITS;
    const notices = [
      ...variables.slice(0, noticesMax).map((name) => notice(name, this.#variables)),
      ...paths
        .slice(0, noticesMax)
        .map((path) => `${this.#file!.name}: ${notice(path, this.#paths)}`),
    ];
    const more = variables.length + paths.length - notices.length;
    return more > 0 ? [...notices, `${more} more names are not settings`] : notices;
  }

  #inEnvironment({ form }: Setting<unknown>, variable: string): Found | null {
    const folder = this.#workingDirectory;
    const text = (this.#environment[variable] ?? '').trim() || this.#secretFile(form, variable);
    if (text === '') return null;
    const shown = form.secret ? '[secret]' : withoutUser(text);
    return { name: variable, value: form.fromText(text), shown, folder };
  }

  /** Returns the text of a secret's file, named by `<variable>_FILE`; empty if not set. */
  #secretFile(form: Setting<unknown>['form'], variable: string): string {
    if (form.secret !== true) return '';
    const fileVariable = `${variable}_FILE`;
    this.#variables.add(fileVariable);
    const path = this.#environment[fileVariable] ?? '';
    if (path === '') return '';
    try {
      return readSmallFile(resolve(this.#workingDirectory, path)).trim();
    } catch {
      this.fault(fileVariable, path, 'a readable file with the secret');
      return '';
    }
  }

  #inFile({ form }: Setting<unknown>, path: string, variable: string): Found | null {
    if (this.#file === null) return null;
    const value = path
      .split('.')
      .reduce<unknown>(
        (part, name) => (isRecord(part) ? part[name] : undefined),
        this.#file.content,
      );
    if (value === undefined || value === null) return null;
    const name = `${this.#file.name}: ${path}`;
    if (form.secret) {
      this.fault(name, '[secret]', `no secret in a file; set ${variable} or ${variable}_FILE`);
      return null;
    }
    const shown = withoutUser(typeof value === 'string' ? value : JSON.stringify(value));
    return { name, value, shown, folder: dirname(this.#file.name) };
  }

  #readFile(): { name: string; content: Record<string, unknown> } | null {
    const named = this.#environment['ERRATA_CONFIG'] ?? '';
    const name = resolve(this.#workingDirectory, named === '' ? DEFAULT_FILE : named);
    if (!existsSync(name)) {
      if (named !== '') this.fault('ERRATA_CONFIG', named, 'a file that exists');
      return null;
    }
    try {
      const content = boundedJson(readSmallFile(name), CONFIGURATION_LIMITS.json);
      if (isRecord(content)) return { name, content };
      this.fault(name, excerpt(content), 'a JSON object');
    } catch (fault) {
      const reason = fault instanceof UnsoundJson ? fault.reason : messageOf(fault);
      this.fault(name, reason, 'a readable JSON file');
    }
    return null;
  }
}

/** Hides the user and password in an address. */
function withoutUser(text: string): string {
  return text.replaceAll(/:\/\/[^/]*@/g, '://[secret]@');
}

function detailsOf(error: Parameters<typeof faultsFound>[0]): string {
  const details = firstFaults(faultsFound(error));
  return ` (${onOneLine(details, CONFIGURATION_LIMITS.expectedCharactersMax)})`;
}

function notice(name: string, known: ReadonlySet<string>): string {
  const alike = [...known].filter(
    (other) => Math.abs(other.length - name.length) <= MISSPELT_DISTANCE_MAX,
  );
  const best = alike.length === 0 ? null : closest(name, alike);
  const meant = best !== null && distance(name, best) <= MISSPELT_DISTANCE_MAX;
  const suggestion = meant ? `; did you mean ${best}?` : '';
  return `${onOneLine(name, NAME_CHARACTERS_MAX)} is not a setting${suggestion}`;
}

function leavesOf(content: Record<string, unknown>, path = ''): string[] {
  return Object.entries(content).flatMap(([name, value]) =>
    isRecord(value) && Object.keys(value).length > 0
      ? leavesOf(value, `${path}${name}.`)
      : [`${path}${name}`],
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
