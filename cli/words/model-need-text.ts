/** What `errata doctor --model` prints. */
import { gigabytes, type ModelNeed } from '../../infra/setup/doctor/model-need.ts';
import type { Colours } from '../terminal/output.ts';

export function modelNeedText(need: ModelNeed, colours: Colours): string {
  const { bold, dim, green, red } = colours;
  const { config, parameters, memory } = need;
  const { parts, phases } = memory;
  const edited = parameters.layers.length;
  const row = (name: string, value: string, note = ''): string =>
    `  ${name.padEnd(NAME_COLUMNS)}${value.padStart(VALUE_COLUMNS)}${note === '' ? '' : `  ${dim(note)}`}`;
  const bytes = (name: string, amount: number, note = ''): string =>
    row(name, gigabytes(amount), note);
  return [
    bold(need.name),
    row('architecture', config.architecture),
    row('layers', String(config.layers)),
    row('residual width D, MLP width F', `${config.residualWidth}, ${config.mlpWidth}`),
    row('heads, key-value heads', `${config.heads}, ${config.keyValueHeads}`),
    row('vocabulary, context', `${config.vocabulary}, ${config.contextMax}`),
    row('parameters', countOf(memory.parameterCount)),
    '',
    bold(`Parameter set: ${need.parameterSet.name}`),
    dim(`  ${need.parameterSet.source}`),
    row('edited layers', parameters.layers.join(', ')),
    row('lambda', String(parameters.lambda)),
    row(
      'steps, learning rate, clamp',
      `${parameters.stepsMax}, ${parameters.learningRate}, ${parameters.clamp}`,
    ),
    '',
    bold('Memory, in either process that has the model'),
    bytes('program, TensorFlow, tokeniser', parts.runtimeBytes),
    bytes('weights, float32', parts.weightsBytes),
    bytes(
      'prior and key moment',
      edited * parts.priorOfBlockBytes,
      `${edited} x ${gigabytes(parts.priorOfBlockBytes)}`,
    ),
    ...parts.hookBytes.map((hook) =>
      bytes(
        `a hook of ${hook.corrections} corrections`,
        hook.bytes,
        hook.corrections === memory.corrections ? 'four are held' : '',
      ),
    ),
    bytes(`keys and values of ${parts.keyValueTokens} tokens`, parts.keyValueBytes, 'serve'),
    '',
    bold('And for a while'),
    bytes(
      'sampling text for key statistics',
      phases.samplingBytes,
      'first start, unless a text is named',
    ),
    bytes('inverting a key moment', phases.invertingBytes, 'every start'),
    bytes(`targets of a batch of ${memory.batchEdits}`, phases.targetsBytes, 'edit-worker'),
    bytes(`writing it onto ${memory.corrections} corrections`, phases.updateBytes, 'edit-worker'),
    bytes('probes', phases.probesBytes, 'edit-worker'),
    '',
    bold('Processes'),
    ...memory.processes.map(({ name, heldBytes, peakBytes }) =>
      bytes(name, peakBytes, `at its peak; ${gigabytes(heldBytes)} at rest`),
    ),
    need.fits ? green(`✓ ${need.sentence}`) : red(`✗ ${need.sentence}`),
  ].join('\n');
}

function countOf(parameters: number): string {
  return parameters >= 1e9
    ? `${(parameters / 1e9).toFixed(2)} billion`
    : `${(parameters / 1e6).toFixed(parameters >= 1e8 ? 0 : 1)} million`;
}

const NAME_COLUMNS = 36;
const VALUE_COLUMNS = 12;
