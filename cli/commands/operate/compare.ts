import { LINEAGE_NAME } from '../../../schemas/correction.ts';
import { engineOptions } from '../../../infra/config/engine-options.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, type CommandSpecification } from '../../session/command.ts';
import type {
  ComparedLineage,
  LineageComparison,
} from '../../../operations/compare/compare-lineages.ts';
import type { Session } from '../../session/session.ts';
import { comparisonText } from '../../words/comparison-text.ts';
import { stepsOn, type Steps } from '../../terminal/steps.ts';

interface Options {
  modelA?: string;
  modelB?: string;
}

/** `errata compare <a> <b>`: two lineages on the same probes. */
const compare: CommandSpecification<Options> = {
  usage: 'compare <a> <b>',
  summary: 'compare two lineages on the same probes',
  description:
    'Asks two lineages the same: the prompt, the paraphrases and the neighbours of every ' +
    'correction that is active in either. Each is measured against its own base model, with the ' +
    'hyper-parameters that made it. <a> and <b> are names of lineages, with @ and a version ' +
    'where it is not HEAD. One model is loaded after the other; no system needs to run.',
  examples: [
    ['compare default other-layers', 'a lineage and its fork'],
    ['compare default@12 default', 'version 12 and HEAD of one lineage'],
    ['compare default on-gpt2 --model-b openai-community/gpt2', 'a fork on another base model'],
  ],
  operation: 'compare the lineages',
  options: (command) =>
    command
      .option(
        '--model-a <path or id>',
        'the model of the first lineage (default: the configured one)',
      )
      .option(
        '--model-b <path or id>',
        'the model of the second lineage (default: the configured one)',
      ),
  async run(session, options, [a, b]) {
    const comparison = await compareWithSteps(
      sideOf(session, a!, options.modelA),
      sideOf(session, b!, options.modelB),
      stepsOn(session.output),
    );
    session.output.result(comparison, () => comparisonText(comparison, session.output));
    return EXIT.ok;
  },
};

export default compare;

/** Compares two lineages and shows the progress. */
export async function compareWithSteps(
  first: ComparedLineage,
  second: ComparedLineage,
  steps: Steps,
): Promise<LineageComparison> {
  const { compareLineages } = await import('../../../operations/compare/compare-lineages.ts');
  try {
    const comparison = await compareLineages(first, second, (step, done, of) =>
      steps.at(step, done, of),
    );
    steps.end();
    return comparison;
  } catch (error) {
    steps.fail();
    throw error;
  }
}

function sideOf(session: Session, named: string, model: string | undefined): ComparedLineage {
  const [, lineage, version] = /^([^@]+)(?:@(\d+))?$/.exec(named) ?? [];
  if (lineage === undefined || !LINEAGE_NAME.test(lineage))
    throw new CommandFailure(
      'compare the lineages',
      `"${named}" is not the name of a lineage`,
      'A lineage is named as `default`, or `default@12` for one of its versions.',
      EXIT.usage,
    );
  const configuration = session.configuration(model === undefined ? {} : { ERRATA_MODEL: model });
  return {
    log: openVersions(configuration).log(lineage),
    version: version === undefined ? null : Number(version),
    model: engineOptions(configuration),
  };
}
