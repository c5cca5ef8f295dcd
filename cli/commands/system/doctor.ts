import { attached } from '../../../infra/local/system-state.ts';
import { diagnose, type Diagnosis } from '../../../infra/setup/doctor/doctor.ts';
import { examineModel } from '../../../infra/setup/doctor/model-need.ts';
import { command, EXIT, option, type ExitCode } from '../../session/command.ts';
import type { Session } from '../../session/session.ts';
import type { Output } from '../../terminal/output.ts';
import { modelNeedText } from '../../words/model-need-text.ts';

/** `errata doctor`: what the set-up and the system need, and whether a model fits. */
export default command({
  usage: 'doctor',
  summary: 'check what this machine has and lacks',
  description: `Checks every prerequisite (found, needed, how to fix it), what the set-up has
installed, whether versions can be read and written in their place (a bucket is tested with an
object of its own), how long Temporal keeps histories and whether its workflows can be searched, and
how the configuration protects Kafka, Temporal and the versions. Changes nothing else. Exits with 1
when something is missing.

With --model it checks a model instead, from its config.json or GGUF header alone: its shape, the
hyper-parameters that apply, and the memory that each process needs. Exits with 1 when the model
does not fit.`,
  examples: `
doctor                            what is there, what is missing
doctor --json                     the same for a program
doctor --model ./my-model         whether this model fits
doctor --model Qwen/Qwen2.5-1.5B  the same for a model that is not fetched yet`,
  operation: 'examine the machine',
  options: {
    model: option('--model <path or id>', 'a model: a path, or a Hugging Face id'),
  },
  async run(session, { model }) {
    if (model === undefined) return await examineMachine(session);
    const need = await examineModel(session.configuration({ ERRATA_MODEL: model }));
    session.output.result(need, () => modelNeedText(need, session.output.colours));
    return need.fits ? EXIT.ok : EXIT.failure;
  },
});

async function examineMachine(session: Session): Promise<ExitCode> {
  const configuration = session.configuration();
  const running = attached(configuration, session.system(configuration));
  const diagnosis = await diagnose(configuration, running);
  session.output.result(diagnosis, () => diagnosisText(session.output, diagnosis));
  return diagnosis.able ? EXIT.ok : EXIT.failure;
}

function diagnosisText({ colours }: Output, diagnosis: Diagnosis): string {
  const { green, red, yellow, dim, bold } = colours;
  const { findings, parts, versions, temporal, protection, able, home, device } = diagnosis;
  const mark = { ok: green('✓'), low: yellow('!'), missing: red('✗'), unknown: dim('·') };
  const shield = { protected: green('✓'), local: dim('·'), open: dim('·'), weak: yellow('!') };
  const line = (sign: string, name: string, text: string, hint = ''): string[] => [
    `${sign} ${name.padEnd(NAME_COLUMNS)} ${text}`,
    ...(hint === '' ? [] : [`    ${dim('→')} ${hint}`]),
  ];
  const installer = (part: string): string =>
    part === 'temporal-test-server' ? 'npm test' : 'errata up';
  return [
    bold('Prerequisites'),
    ...findings.flatMap(({ state, name, found, needed, mend }) => {
      const need = state === 'ok' ? '' : dim(`  (needed: ${needed})`);
      return line(mark[state], name, `${found}${need}`, mend);
    }),
    '',
    bold(`Installed in ${home} (device ${device})`),
    ...parts.flatMap(({ part, installed }) =>
      installed
        ? line(green('✓'), part, 'installed')
        : line(dim('·'), part, dim(`not yet; ${installer(part)} installs it`)),
    ),
    '',
    bold('Versions'),
    ...line(mark[versions.state], versions.where, versions.found, versions.mend),
    '',
    bold('Temporal'),
    ...temporal.flatMap(({ state, name, found, mend }) => line(mark[state], name, found, mend)),
    '',
    bold('Protection, as configured'),
    ...protection.flatMap(({ state, of, how }) => line(shield[state], of, how)),
    '',
    able ? green('Nothing is missing.') : red('Something is missing; the arrows show what to do.'),
  ].join('\n');
}

const NAME_COLUMNS = 24;
