import { engineOptions } from '../../../infra/config/engine-options.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import type {
  ComparedLineage,
  LineageComparison,
} from '../../../operations/compare/compare-lineages.ts';
import { LINEAGE_NAME } from '../../../schemas/correction.ts';
import { command, option } from '../../session/command.ts';
import type { Session } from '../../session/session.ts';
import { misused } from '../../terminal/command-failure.ts';
import type { Output } from '../../terminal/output.ts';
import { StatusLine } from '../../terminal/status-line.ts';
import { comparisonText } from '../../words/comparison-text.ts';

/** `errata compare <a> <b>`: two lineages on the same probes. */
export default command({
  usage: 'compare <a> <b>',
  summary: 'compare two lineages on the same probes',
  description: `Asks two lineages the prompt, the paraphrases and the neighbours of every correction
that holds in either. Each is measured against its own base model, with the hyper-parameters that
made it. <a> and <b> are names of lineages, with @ and a version where it is not HEAD. One model is
loaded after the other; nothing needs to run.`,
  examples: `
compare default other-layers  a lineage and its fork
compare default@12 default    version 12 and HEAD of one lineage
compare default on-gpt2 --model-b openai-community/gpt2
  a fork on another base model`,
  operation: 'compare the lineages',
  options: {
    modelA: option(
      '--model-a <path or id>',
      'the model of the first lineage (default: the configured one)',
    ),
    modelB: option(
      '--model-b <path or id>',
      'the model of the second lineage (default: the configured one)',
    ),
  },
  async run(session, { modelA, modelB }, [a, b]) {
    const { output } = session;
    const sides = [sideOf(session, a!, modelA), sideOf(session, b!, modelB)] as const;
    const comparison = await compareLineages(output, ...sides);
    output.result(comparison, () => comparisonText(comparison, output));
  },
});

/** Compares two lineages and shows the progress. */
export async function compareLineages(
  output: Output,
  first: ComparedLineage,
  second: ComparedLineage,
): Promise<LineageComparison> {
  const { compareLineages } = await import('../../../operations/compare/compare-lineages.ts');
  const line = new StatusLine(output);
  try {
    return await compareLineages(first, second, (step, done, of) => line.set(step, done, of));
  } finally {
    line.end();
  }
}

function sideOf(session: Session, name: string, model: string | undefined): ComparedLineage {
  const [, lineage, version] = /^([^@]+)(?:@(\d+))?$/.exec(name) ?? [];
  if (lineage === undefined || !LINEAGE_NAME.test(lineage))
    throw misused(
      `"${name}" is not the name of a lineage`,
      'A lineage is named as `default`, or `default@12` for one of its versions.',
    );
  const configuration = session.configuration(model === undefined ? {} : { ERRATA_MODEL: model });
  return {
    log: openVersions(configuration).log(lineage),
    version: version === undefined ? null : Number(version),
    model: engineOptions(configuration),
  };
}
