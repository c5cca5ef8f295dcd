import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { beforeEach, expect, test } from 'vitest';
import { commandReference } from '../../cli/command-reference.ts';
import { EXIT } from '../../cli/terminal/exit-code.ts';
import { programWith } from '../../cli/main.ts';
import { testFolder } from '../harness/clean-up.ts';
import { invoke } from '../harness/invocation.ts';

let folder: string;
beforeEach(() => void (folder = testFolder()));

/** Runs one command in an empty data folder. */
const errata = (args: string | string[], environment: NodeJS.ProcessEnv = {}, input = '') =>
  invoke(folder, args, environment, input);

/** The program with all commands, for descriptions only. */
const wholeProgram = () => {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const surroundings = { in: Readable.from([]), out, err, environment: {}, workingDirectory: '' };
  return programWith(surroundings, () => {});
};

test('prints its help without arguments, and exits with 0', async () => {
  const { code, out } = await errata([]);
  expect(code).toBe(EXIT.ok);
  expect(out).toContain('submit');
  expect(out).toContain('Exit codes');
});

test('every command has a summary, examples and --json', async () => {
  const program = await wholeProgram();
  const names = program.commands.map((command) => command.name());
  const some = 'up down status doctor submit log show ask watch demo token'.split(' ');
  expect(names).toEqual(expect.arrayContaining(some));
  for (const command of program.commands.flatMap((one) =>
    one.commands.length > 0 ? one.commands : [one],
  )) {
    const group = command.parent === program ? [] : [command.parent!.name()];
    const { code, out } = await errata([...group, command.name(), '--help']);
    expect(code).toBe(EXIT.ok);
    expect(command.summary()).not.toBe('');
    expect(out, command.name()).toContain('Examples:');
    expect(out, command.name()).toContain('--json');
  }
});

test('the reference describes every command (update with `vitest -u`)', async () => {
  const program = await wholeProgram();
  await expect(commandReference(program)).toMatchFileSnapshot('../../docs/commands.md');
});

test('exits with 2 for an unknown command or flag, and suggests a known one', async () => {
  expect((await errata('statsu')).code).toBe(EXIT.usage);
  expect((await errata('statsu')).err).toContain('status');
  expect((await errata('log --cuont 3')).code).toBe(EXIT.usage);
  expect((await errata('log --count many')).code).toBe(EXIT.usage);
});

test('exits with 2 and names every fault of an invalid configuration', async () => {
  const { code, err } = await errata('log', { ERRATA_DEVICE: 'tpu', ERRATA_LOG_LEVEL: 'loud' });
  expect(code).toBe(EXIT.usage);
  expect(err).toContain('ERRATA_DEVICE');
  expect(err).toContain('ERRATA_LOG_LEVEL');
});

test('exits with 3 where no system runs, and names the command that starts one', async () => {
  for (const args of [
    ['submit', '--subject', 'a', '--prompt', 'b a', '--target', 'c'],
    ['watch'],
    ['demo'],
  ]) {
    const { code, err } = await errata(args);
    expect(code, args[0]).toBe(EXIT.notRunning);
    expect(err).toContain('errata up');
  }
});

test('writes a failure as JSON with --json', async () => {
  const { err } = await errata('watch --json');
  expect(JSON.parse(err)).toMatchObject({
    error: {
      operation: 'follow the stream',
      mend: expect.stringContaining('errata up') as string,
    },
  });
});

test('status shows HEAD of an empty data folder while nothing runs', async () => {
  const text = await errata('status');
  expect(text.code).toBe(EXIT.notRunning);
  expect(text.out).toContain('version 0, the base model');
  const json = JSON.parse((await errata('status --json')).out) as {
    running: boolean;
    lineages: unknown[];
  };
  expect(json.running).toBe(false);
  expect(json.lineages).toMatchObject([{ lineage: 'default', head: { version: 0 } }]);
});

test('log says that there are no versions yet', async () => {
  expect((await errata('log')).out).toContain('no versions yet');
  expect(JSON.parse((await errata('log --json')).out)).toMatchObject({
    head: { version: 0 },
    versions: [],
  });
  expect((await errata('show 1')).code).toBe(EXIT.failure);
  expect((await errata('show one')).code).toBe(EXIT.usage);
});

test('refuses a lineage that is not configured', async () => {
  const { code, err } = await errata('log --lineage other');
  expect(code).toBe(EXIT.usage);
  expect(err).toContain('default');
});

test('names the lines with faults and sends nothing', async () => {
  writeFileSync(
    join(folder, 'bad.ndjson'),
    '{"subject":"a","prompt":"b a","target":"c"}\n\n{"subject":"a"\n' +
      '{"subject":"z","prompt":"b a","target":""}\n',
  );
  const { code, err } = await errata('submit --file bad.ndjson', {
    ERRATA_KAFKA_BROKERS: '127.0.0.1:1',
  });
  expect(code).toBe(EXIT.usage);
  expect(err).toContain('bad.ndjson:3: it is not JSON');
  expect(err).toContain('bad.ndjson:4: target is empty');
  expect(err).toContain('nothing was sent');
});

test('refuses to expose a system without tokens to the network', async () => {
  expect(await errata('up', { ERRATA_HOST: '0.0.0.0' })).toMatchObject({
    code: EXIT.usage,
    err: expect.stringContaining('errata token create') as string,
  });
});

test('down does nothing where nothing runs', async () => {
  expect(await errata('down')).toMatchObject({
    code: EXIT.ok,
    out: expect.stringContaining('was running') as string,
  });
});

test('writes no colours with NO_COLOR, and writes them with FORCE_COLOR', async () => {
  const escape = String.fromCharCode(27);
  expect((await errata('watch', { FORCE_COLOR: '1' })).err).toContain(escape);
  expect((await errata('watch', { FORCE_COLOR: '1', NO_COLOR: '1' })).err).not.toContain(escape);
});
