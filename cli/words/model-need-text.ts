/** How the memory that a model needs reads on a terminal. */
import { gigabytes, type ModelNeed } from '../../infra/setup/doctor/model-need.ts';
import type { Colours } from '../terminal/output.ts';

const NAME_COLUMNS = 36;
const VALUE_COLUMNS = 12;

type Row = [name: string, value: string | number, note?: string | undefined];

export function modelNeedText(need: ModelNeed, colours: Colours): string {
  const { bold, dim, green, red } = colours;
  const rows = (...list: Row[]): string[] =>
    list.map(([name, value, note]) => {
      const text = typeof value === 'number' ? gigabytes(value) : value;
      const end = note === undefined ? '' : `  ${dim(note)}`;
      return `  ${name.padEnd(NAME_COLUMNS)}${text.padStart(VALUE_COLUMNS)}${end}`;
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
