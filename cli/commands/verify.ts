import { openVersions } from '../../infra/open-versions.ts';
import type { Verification } from '../../versions/verify.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../command.ts';
import type { Output } from '../output.ts';
import { whileWaiting } from '../progress.ts';

/** `errata verify`: whether the version log is as it was written, from its bytes alone. */
const verify: CommandSpecification<{ lineage?: string }> = {
  usage: 'verify',
  summary: 'check the version log to the last byte',
  description:
    'Reads every entry, blob and registered outcome of a lineage and computes all hashes anew: numbers without a hole, each entry the hash of the one before, blobs as they are named, pairs and probe details that fit their entry, the fold of what holds. A single changed byte is found. Needs nothing that runs. Exits with 1 if anything is wrong.',
  examples: [
    ['verify', 'the first lineage'],
    ['verify --lineage support --json', 'another one, for a program'],
  ],
  operation: 'verify the version log',
  options: (command) => command.option(...LINEAGE_OPTION),
  async run(session, options) {
    const configuration = session.configuration();
    const lineage = session.lineage(configuration, options.lineage);
    const began = performance.now();
    const found = await whileWaiting(session.output, `verifying ${lineage}`, null, (at) => openVersions(configuration).verify(lineage, at));
    const seconds = (performance.now() - began) / 1_000;
    session.output.result({ ...found, sound: found.findings.length === 0, seconds }, () => describe(session.output, found, seconds));
    return found.findings.length === 0 ? EXIT.ok : EXIT.failure;
  },
};

export default verify;

function describe({ colours }: Output, found: Verification, seconds: number): string {
  const { lineage, versions, corrections, objects, bytes, findings, head } = found;
  const extent = `${versions} version${versions === 1 ? '' : 's'}, ${corrections} corrections hold, ${objects} objects, ${(bytes / 1e6).toFixed(1)} MB, ${seconds.toFixed(1)} s`;
  if (findings.length > 0) {
    return [`${colours.red('DAMAGED')} lineage ${lineage}: ${findings.length} finding${findings.length === 1 ? '' : 's'} (${extent})`, ...findings.map(({ object, problem }) => `  ${object}\n      ${problem}`)].join('\n');
  }
  const anchor = head.version === 0 ? '' : head.anchored ? `\nHEAD is version ${head.version}, ${head.hash}.` : `\n${colours.yellow('!')} Nothing vouches yet for the last entry, version ${head.version}: its hash is ${head.hash}.`;
  return `${colours.green('sound')} lineage ${lineage}: ${extent}${anchor}`;
}
