/**
 * The set-up as a process: `node --import tsx infra/setup/provision/main.ts [part …]` installs the
 * named parts, or all. It exits with 0 if they are installed, else reports the failure.
 */
import { deviceFromEnvironment, homeFromEnvironment } from '../../config/home.ts';
import { messageOf } from '../../../schemas/failures.ts';
import { progressOn } from '../progress.ts';
import { PARTS, provision, type Part } from './index.ts';

const named = process.argv.slice(2);
const unknown = named.filter((name) => !(PARTS as readonly string[]).includes(name));
if (unknown.length > 0) {
  const parts = PARTS.join(', ');
  process.stderr.write(`Unknown part: ${unknown.join(', ')}. The parts are: ${parts}.\n`);
  process.exit(2);
}
try {
  await provision(named.length > 0 ? (named as Part[]) : PARTS, {
    home: homeFromEnvironment(),
    device: deviceFromEnvironment(),
    progress: progressOn(process.stderr),
  });
} catch (error) {
  process.stderr.write(`\n${messageOf(error)}\n`);
  process.exitCode = 1;
}
