/**
 * The set-up as a process: `node --import tsx infra/setup/provision/main.ts [part …]` installs the
 * named parts, or all of them. It ends with 0 if they are there, and with 1 after saying what is
 * missing or what failed.
 */
import { deviceFromEnvironment, homeFromEnvironment } from '../../config/home.ts';
import { progressOn } from '../progress.ts';
import { PARTS, provision, type Part } from './index.ts';

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !(PARTS as readonly string[]).includes(name));
if (unknown.length > 0) {
  process.stderr.write(`Unknown part: ${unknown.join(', ')}. There are: ${PARTS.join(', ')}.\n`);
  process.exit(2);
}
try {
  await provision(asked.length > 0 ? (asked as Part[]) : PARTS, {
    home: homeFromEnvironment(),
    device: deviceFromEnvironment(),
    progress: progressOn(process.stderr),
  });
} catch (error) {
  process.stderr.write(`\n${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
