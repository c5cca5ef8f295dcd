import type { Command } from 'commander';
import { diagnose } from '../../../infra/setup/doctor/doctor.ts';
import { homeAt } from '../../../infra/config/home.ts';
import { examineTemporal } from '../../../infra/setup/doctor/examine-temporal.ts';
import { examineVersions } from '../../../infra/setup/doctor/examine-versions.ts';
import { examineModel } from '../../../infra/setup/doctor/model-need.ts';
import { protectionOf } from '../../../infra/setup/doctor/protection.ts';
import { attached } from '../../../infra/local/system-state.ts';
import { EXIT, type CommandSpecification } from '../../session/command.ts';
import { modelNeedText } from '../../words/model-need-text.ts';
import type { Session } from '../../session/session.ts';

/**
 * `errata doctor`: is everything there that the set-up and the system need, and does a model fit?
 */
const doctor: CommandSpecification<{ model?: string }> = {
  usage: 'doctor',
  summary: 'check what this machine has and lacks',
  description:
    'Looks at every prerequisite (found, needed, how to mend it), at what the set-up has installed, at whether versions can be read and written where they are (a bucket is put to the proof with an object of its own), at how long Temporal keeps histories and whether workflows can be found in it, and at how the configuration protects the ways to Kafka, Temporal and the versions and what stays there. Changes nothing else. Exit code 1 when something is missing.\nWith --model it looks at a model instead, by its config.json or GGUF header alone: its shape, the hyper-parameters that apply, and the memory that each process will take. Exit code 1 when it will not fit.',
  examples: [
    ['doctor', 'what is there, what is missing'],
    ['doctor --json', 'the same for a program'],
    ['doctor --model ./my-model', 'would this model fit?'],
    ['doctor --model Qwen/Qwen2.5-1.5B', 'the same of a model that is not fetched yet'],
  ],
  operation: 'examine the machine',
  options(command: Command) {
    command.option('--model <path or id>', 'a model: a path, or a Hugging Face id');
  },
  run: (session, { model }) =>
    model === undefined ? examineMachine(session) : examine(session, model),
};

async function examineMachine(session: Session) {
  const configuration = session.configuration();
  const [machine, versions, temporal] = await Promise.all([
    diagnose(homeAt(configuration.home), configuration.device),
    examineVersions(configuration),
    examineTemporal(attached(configuration, session.system(configuration))),
  ]);
  const diagnosis = {
    ...machine,
    able: machine.able && versions.state !== 'missing',
    versions,
    temporal,
    protection: protectionOf(configuration),
  };
  const { output } = session;
  const { green, red, yellow, dim, bold } = output.colours;
  const mark = { ok: green('✓'), low: yellow('!'), missing: red('✗'), unknown: dim('·') };
  const shield = { protected: green('✓'), local: dim('·'), open: dim('·'), weak: yellow('!') };
  output.result(diagnosis, () =>
    [
      bold('Prerequisites'),
      ...diagnosis.findings.flatMap((finding) => [
        `${mark[finding.state]} ${finding.name.padEnd(24)} ${finding.found}${finding.state === 'ok' ? '' : dim(`  (needed: ${finding.needed})`)}`,
        ...(finding.mend === '' ? [] : [`    ${dim('→')} ${finding.mend}`]),
      ]),
      '',
      bold(`Installed in ${diagnosis.home} (device ${diagnosis.device})`),
      ...diagnosis.parts.map(
        ({ part, installed }) =>
          `${installed ? green('✓') : dim('·')} ${part.padEnd(24)} ${installed ? 'installed' : dim(`not yet; ${part === 'temporal-test-server' ? 'npm test' : 'errata up'} installs it`)}`,
      ),
      '',
      bold('Versions'),
      `${mark[versions.state]} ${versions.where.padEnd(24)} ${versions.found}`,
      ...(versions.mend === '' ? [] : [`    ${dim('→')} ${versions.mend}`]),
      '',
      bold('Temporal'),
      ...temporal.flatMap(({ name, state, found, mend }) => [
        `${mark[state]} ${name.padEnd(24)} ${found}`,
        ...(mend === '' ? [] : [`    ${dim('→')} ${mend}`]),
      ]),
      '',
      bold('Protection, as configured'),
      ...diagnosis.protection.map(
        ({ of, state, how }) => `${shield[state]} ${of.padEnd(24)} ${how}`,
      ),
      '',
      diagnosis.able
        ? green('Nothing is missing.')
        : red('Something is missing; the arrows say what to do.'),
    ].join('\n'),
  );
  return diagnosis.able ? EXIT.ok : EXIT.failure;
}

async function examine(session: Session, model: string) {
  const need = await examineModel(session.configuration({ ERRATA_MODEL: model }));
  session.output.result(need, () => modelNeedText(need, session.output.colours));
  return need.fits ? EXIT.ok : EXIT.failure;
}

export default doctor;
