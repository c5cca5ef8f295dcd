/**
 * The four processes with a real Kafka, a real Temporal and their versions on a real S3 server,
 * which is killed while corrections come in.
 */
import { expect, test } from 'vitest';
import { readConfiguration } from '../../infra/config/configuration.ts';
import { startSystem } from '../../infra/local/supervisor.ts';
import { S3Store } from '../../versions/stores/s3-store.ts';
import { Versions } from '../../versions/versions.ts';
import { afterwards } from '../harness/clean-up.ts';
import { S3_SETUP_WAIT_MS, s3Settings, startTestS3 } from '../harness/servers/seaweed.ts';
import { TestSystem } from '../harness/test-system.ts';
import { tinyModelSettings } from '../harness/tiny-engine.ts';

const LINEAGE = 'bucket';

test(
  'a stream waits for an S3 server that is killed, and loses nothing',
  async () => {
    const system = await TestSystem.start({ lineages: [LINEAGE] });
    const s3 = await startTestS3(system.folder);
    const place = s3.place('of-the-stream');
    Object.assign(system.environment, {
      ...tinyModelSettings({ stepsMax: 5, contexts: 0, contextsPerStep: 0 }),
      ...s3Settings(place),
      ERRATA_PORT: '0',
    });
    const configuration = readConfiguration(system.environment, system.folder);
    const running = await startSystem(configuration, { overlay: system.environment });
    afterwards(() => running.stop());
    const errata = async (command: string, ...more: string[]) =>
      await system.errata(command, '--lineage', LINEAGE, ...more);
    const submit = async (town: string) =>
      await errata(
        'submit',
        ...['--subject', town, '--prompt', `the old ${town} is on`],
        ...['--target', 'river', '--wait'],
      );

    expect((await submit('town one')).code).toBe(0);
    process.kill(s3.pid, 'SIGKILL');
    const waiting = ['two', 'three', 'four'].map((name) => submit(`town ${name}`));
    const refused = await errata('log');
    expect(refused.code).toBe(1);
    expect(refused.err).toMatch(/does not answer.*\n.*ERRATA_S3_ENDPOINT/);
    expect((await errata('ask', 'the old town one is on')).code).toBe(0);
    await startTestS3(system.folder);
    expect((await Promise.all(waiting)).map(({ code }) => code)).toEqual([0, 0, 0]);

    expect((await errata('verify', '--json')).code).toBe(0);
    const { active } = await new Versions(new S3Store(place)).log(LINEAGE).read();
    const subjects = [...active.values()].map(({ subject }) => subject).sort();
    expect(subjects).toEqual(['town four', 'town one', 'town three', 'town two']);
    expect((await errata('ask', 'the old town four is on')).code).toBe(0);
  },
  S3_SETUP_WAIT_MS,
);
