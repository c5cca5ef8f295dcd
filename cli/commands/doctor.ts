import { diagnose } from '../../infra/doctor.ts';
import { homeAt } from '../../infra/home.ts';
import { EXIT, type CommandSpecification } from '../command.ts';

/** `errata doctor`: is everything there that the set-up and the system need? */
const doctor: CommandSpecification<object> = {
  usage: 'doctor',
  summary: 'check what this machine has and lacks',
  description: 'Looks at every prerequisite (found, needed, how to mend it), at what the set-up has installed, and at the configuration. Changes nothing. Exit code 1 when something is missing.',
  examples: [
    ['doctor', 'what is there, what is missing'],
    ['doctor --json', 'the same for a program'],
  ],
  operation: 'examine the machine',
  options: () => {},
  async run(session) {
    const configuration = session.configuration();
    const diagnosis = await diagnose(homeAt(configuration.home), configuration.device);
    const { output } = session;
    const { green, red, yellow, dim, bold } = output.colours;
    const mark = { ok: green('✓'), low: yellow('!'), missing: red('✗') };
    output.result(diagnosis, () =>
      [
        bold('Prerequisites'),
        ...diagnosis.findings.flatMap((finding) => [
          `${mark[finding.state]} ${finding.name.padEnd(24)} ${finding.found}${finding.state === 'ok' ? '' : dim(`  (needed: ${finding.needed})`)}`,
          ...(finding.mend === '' ? [] : [`    ${dim('→')} ${finding.mend}`]),
        ]),
        '',
        bold(`Installed in ${diagnosis.home} (device ${diagnosis.device})`),
        ...diagnosis.parts.map(({ part, installed }) => `${installed ? green('✓') : dim('·')} ${part.padEnd(24)} ${installed ? 'installed' : dim(`not yet; ${part === 'temporal-test-server' ? 'npm test' : 'errata up'} installs it`)}`),
        '',
        diagnosis.able ? green('Nothing is missing.') : red('Something is missing; the arrows say what to do.'),
      ].join('\n'),
    );
    return diagnosis.able ? EXIT.ok : EXIT.failure;
  },
};

export default doctor;
