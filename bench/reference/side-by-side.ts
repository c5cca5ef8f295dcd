import type { BenchResult } from '../edit-stream.ts';
import { share } from '../tables.ts';
import type { ReferenceResult } from './reference-result.ts';

/**
 * Returns the reference's seconds per correction divided by ours. Ours include probes and commits.
 */
export function speedupOf(
  ours: Pick<BenchResult, 'secondsPerCorrection'>,
  reference: Pick<ReferenceResult, 'secondsPerCorrection'>,
): number {
  return reference.secondsPerCorrection / ours.secondsPerCorrection;
}

export function sideBySide(ours: BenchResult, reference: ReferenceResult): string {
  const seconds = (value: number) => `${value.toFixed(3)} s`;
  const both = (
    name: string,
    of: (result: BenchResult | ReferenceResult) => string,
    ratio = '',
  ): string[] => [name, of(ours), of(reference), ratio];
  const stage = (name: string, our: number, its: number): string[] => [
    `  ${name}`,
    seconds(our / ours.corrections),
    seconds(its / reference.corrections),
  ];
  const { context, targets, keys, solve, hook, probes, commit } = ours.stages;
  const speedup = `${speedupOf(ours, reference).toFixed(1)} x`;
  const rows: string[][] = [
    ['', 'Errata', 'reference'],
    both('corrections', ({ corrections, batches }) => `${corrections} in ${batches}`),
    both('efficacy, target is argmax', ({ efficacy }) => share(efficacy)),
    both('efficacy, greedy decoding', ({ efficacyGreedy }) => share(efficacyGreedy)),
    ['  prompt read token by token', '', share(reference.efficacyTokenByToken)],
    both('p(new) > p(old)', ({ preference }) => share(preference)),
    both('paraphrases p(new) > p(old)', ({ paraphrase }) => share(paraphrase)),
    both('paraphrases, target is argmax', ({ paraphraseArgmax }) => share(paraphraseArgmax)),
    both('neighbours unchanged', ({ neighboursUnchanged }) => share(neighboursUnchanged)),
    both('perplexity, edited / base', ({ perplexityRatio }) => perplexityRatio.toFixed(4)),
    both('ordinary tokens behind a gate', ({ ordinaryOpenShare }) => share(ordinaryOpenShare)),
    both('time per correction', (result) => seconds(result.secondsPerCorrection), speedup),
    stage('context and targets', context + targets, reference.stages.targets),
    stage('keys', keys, reference.stages.keys),
    stage('solve', solve, reference.stages.solve),
    stage('gate or hook', hook, reference.stages.gate),
    ['  probes and commit', seconds((probes + commit) / ours.corrections), '-'],
    both('peak memory', ({ peakRssBytes }) => `${(peakRssBytes / 1e9).toFixed(2)} GB`),
  ];
  const note =
    reference.corrections < ours.corrections
      ? `The reference's column is about the first ${reference.corrections} of the ` +
        `${ours.corrections} records only.\n`
      : '';
  const { torch, threads, device } = reference.software;
  const software = `The reference: PyTorch ${torch} on ${device}, ${threads} threads.`;
  return `\n${rows.map(line).join('\n')}\n${note}${software}\n`;
}

function line([name = '', ...values]: string[]): string {
  const widths = [14, 14, 8];
  return (
    name.padEnd(32) + values.map((value, i) => value.padStart(widths[i]!)).join('')
  ).trimEnd();
}
