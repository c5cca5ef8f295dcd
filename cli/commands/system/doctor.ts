import { attached } from '../../../infra/local/system-state.ts';
import { type Diagnosis, diagnose } from '../../../infra/setup/doctor/doctor.ts';
import { type ModelNeed, examineModel, gigabytes } from '../../../infra/setup/doctor/model-need.ts';
import { EXIT, type ExitCode, command, MODEL } from '../../session/command.ts';
import type { Session } from '../../session/session.ts';
import { bold, dim, green, red, yellow } from '../../terminal/colours.ts';

/** `errata doctor`: checks the requirements of set-up and system, and whether a model fits. */
export default command({
  usage: 'doctor',
  summary: 'check what this machine has and lacks',
  description: `Checks every prerequisite, what is installed, whether versions can be read and
written in their place, how long Temporal keeps histories, and how the configuration protects the
servers; names what is missing and how to fix it. With --model it checks a model instead, from its
config.json or GGUF header alone: its shape, its hyper-parameters, and the memory that each process
needs. Exits with 1 when something is missing or the model does not fit.`,
  examples: `
doctor                            what is there, what is missing
doctor --model Qwen/Qwen2.5-1.5B  whether this model fits; it need not be fetched yet`,
  operation: 'examine the machine',
  options: { model: MODEL },
  async run(session, { model }) {
    if (model === undefined) return await examineMachine(session);
    const need = await examineModel(session.configuration({ ERRATA_MODEL: model }));
    session.output.result(need, () => modelNeedText(need));
    return need.fits ? EXIT.ok : EXIT.failure;
  },
});

async function examineMachine(session: Session): Promise<ExitCode> {
  const configuration = session.configuration();
  const running = attached(configuration, session.system(configuration));
  const diagnosis = await diagnose(configuration, running);
  session.output.result(diagnosis, () => diagnosisText(diagnosis));
  return diagnosis.able ? EXIT.ok : EXIT.failure;
}

function diagnosisText(diagnosis: Diagnosis): string {
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

const NEED_COLUMNS = 36;
const VALUE_COLUMNS = 12;

type Row = [name: string, value: string | number, note?: string | undefined];

function modelNeedText(need: ModelNeed): string {
  const rows = (...list: Row[]): string[] =>
    list.map(([name, value, note]) => {
      const text = typeof value === 'number' ? gigabytes(value) : value;
      const end = note === undefined ? '' : `  ${dim(note)}`;
      return `  ${name.padEnd(NEED_COLUMNS)}${text.padStart(VALUE_COLUMNS)}${end}`;
    });
  const { name, parameterSet, parameters, memory, fits, sentence } = need;
  const { layers, lambda, stepsMax, learningRate, clamp } = parameters;
  return [
    bold(name),
    ...rows(...shapeRows(need)),
    '',
    bold(`Parameter set: ${parameterSet.name}`),
    dim(`  ${parameterSet.source}`),
    ...rows(
      ['edited layers', layers.join(', ')],
      ['lambda', String(lambda)],
      ['steps, learning rate, clamp', `${stepsMax}, ${learningRate}, ${clamp}`],
    ),
    '',
    bold('Memory, in either process that has the model'),
    ...rows(...heldRows(need)),
    '',
    bold('Temporarily'),
    ...rows(...phaseRows(memory)),
    '',
    bold('Processes'),
    ...rows(
      ...memory.processes.map(({ name, heldBytes, peakBytes }): Row => [
        name,
        peakBytes,
        `at its peak; ${gigabytes(heldBytes)} at rest`,
      ]),
    ),
    fits ? green(`✓ ${sentence}`) : red(`✗ ${sentence}`),
  ].join('\n');
}

function shapeRows({ config, memory: { parameterCount: count } }: ModelNeed): Row[] {
  const { residualWidth, mlpWidth, heads, keyValueHeads, vocabulary, contextMax } = config;
  const millions = `${(count / 1e6).toFixed(count >= 1e8 ? 0 : 1)} million`;
  return [
    ['architecture', config.architecture],
    ['layers', String(config.layers)],
    ['residual width D, MLP width F', `${residualWidth}, ${mlpWidth}`],
    ['heads, key-value heads', `${heads}, ${keyValueHeads}`],
    ['vocabulary, context', `${vocabulary}, ${contextMax}`],
    ['parameters', count >= 1e9 ? `${(count / 1e9).toFixed(2)} billion` : millions],
  ];
}

function heldRows({ parameters, memory: { parts, corrections } }: ModelNeed): Row[] {
  const edited = parameters.layers.length;
  const perLayer = (name: string, bytes: number): Row => [
    name,
    edited * bytes,
    `${edited} x ${gigabytes(bytes)}`,
  ];
  return [
    ['program, TensorFlow, tokeniser', parts.runtimeBytes],
    ['weights, float32', parts.weightsBytes],
    perLayer('prior and key moment', parts.priorOfBlockBytes),
    ...parts.hookBytes.map((hook): Row => [
      `a hook of ${hook.corrections} corrections`,
      hook.bytes,
      hook.corrections === corrections ? 'four are held' : undefined,
    ]),
    [`keys and values of ${parts.keyValueTokens} tokens`, parts.keyValueBytes, 'serve'],
  ];
}

function phaseRows({ phases, batchEdits, corrections }: ModelNeed['memory']): Row[] {
  const sampling = 'first start, unless a text is configured';
  return [
    ['sampling text for key statistics', phases.samplingBytes, sampling],
    ['inverting a key moment', phases.invertingBytes, 'every start'],
    [`targets of a batch of ${batchEdits}`, phases.targetsBytes, 'edit-worker'],
    [`writing it onto ${corrections} corrections`, phases.updateBytes, 'edit-worker'],
    ['probes', phases.probesBytes, 'edit-worker'],
  ];
}
