import { homeAt } from '../../../infra/config/home.ts';
import { stopEmbeddedKafka } from '../../../infra/local/kafka.ts';
import { isRunning, type ProcessMark } from '../../../infra/local/process-mark.ts';
import { findSystem } from '../../../infra/local/system-state.ts';
import { stopEmbeddedTemporal } from '../../../infra/local/temporal.ts';
import { command } from '../../session/command.ts';
import { failed } from '../../terminal/command-failure.ts';
import { whileWaiting } from '../../terminal/status-line.ts';

const STOP_WAIT_MS = 180_000;
const LOOK_EVERY_MS = 100;

/** `errata down`: stops the system of this data folder, wherever it was started. */
export default command({
  usage: 'down',
  summary: 'stop the system that `errata up` started',
  description: `Stops the system of this data folder: its processes in order, then Temporal and
Kafka. Nothing is lost: what was acknowledged is there at the next start.`,
  examples: `
down  stops it; does nothing when nothing runs`,
  operation: 'stop the system',
  async run(session) {
    const { home } = session.configuration();
    const system = findSystem(home);
    if (system !== null) {
      process.kill(system.supervisor.pid, 'SIGTERM');
      await whileWaiting(session.output, 'stopping', () => untilEnded(system.supervisor, home));
    }
    // A killed supervisor leaves its servers running.
    const temporal = await stopEmbeddedTemporal(homeAt(home).serverData('temporal'));
    const kafka = await stopEmbeddedKafka(homeAt(home).serverData('kafka'));
    const stopped = system !== null || temporal || kafka;
    session.output.result({ stopped, home }, () =>
      stopped ? 'Stopped.' : `No system of ${home} was running.`,
    );
  },
});

/** The supervisor is not a child process, so its end must be polled. */
async function untilEnded(supervisor: ProcessMark, home: string): Promise<void> {
  const deadlineMs = performance.now() + STOP_WAIT_MS;
  while (isRunning(supervisor)) {
    if (performance.now() > deadlineMs)
      throw failed(
        `its supervisor (pid ${supervisor.pid}) still runs after ${STOP_WAIT_MS / 1_000} s`,
        `See the logs in ${home}/logs.`,
      );
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}
