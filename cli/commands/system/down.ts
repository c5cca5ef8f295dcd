import { stopEmbeddedKafka } from '../../../infra/local/kafka.ts';
import { stopEmbeddedTemporal } from '../../../infra/local/temporal.ts';
import { homeAt } from '../../../infra/config/home.ts';
import { findSystem, isRunning } from '../../../infra/local/system-state.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, type CommandSpecification } from '../../session/command.ts';
import { whileWaiting } from '../../terminal/progress.ts';

const STOP_WAIT_MS = 180_000;
const LOOK_EVERY_MS = 100;

/** `errata down`: stops the system of this data folder, wherever it was started. */
const down: CommandSpecification<object> = {
  usage: 'down',
  summary: 'stop the system that `errata up` started',
  description:
    'Stops the system of this data folder: its processes in order, then Temporal and Kafka. Nothing is lost: what was acknowledged is there at the next start.',
  examples: [['down', 'stops it; does nothing when nothing runs']],
  operation: 'stop the system',
  options: () => {},
  async run(session) {
    const { home } = session.configuration();
    const system = findSystem(home);
    if (system !== null) {
      process.kill(system.supervisor.pid, 'SIGTERM');
      await whileWaiting(session.output, 'Stopping', null, async () => {
        const deadlineMs = performance.now() + STOP_WAIT_MS;
        // It is no child of ours, so there is no event to wait for.
        while (isRunning(system.supervisor)) {
          if (performance.now() > deadlineMs)
            throw new CommandFailure(
              'stop the system',
              `its supervisor (pid ${system.supervisor.pid}) still runs after ${STOP_WAIT_MS / 1_000} s`,
              `Look into ${home}/logs.`,
            );
          await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
        }
      });
    }
    // A supervisor that was killed leaves its servers behind.
    const temporal = await stopEmbeddedTemporal(homeAt(home).serverData('temporal'));
    const kafka = await stopEmbeddedKafka(homeAt(home).serverData('kafka'));
    const stopped = system !== null || temporal || kafka;
    session.output.result({ stopped, home }, () =>
      stopped ? 'Stopped.' : `Nothing of ${home} was running.`,
    );
    return EXIT.ok;
  },
};

export default down;
