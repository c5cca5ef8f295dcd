/** Compares two results on the same records. */
import type { BenchResult } from '../edit-stream.ts';
import type { ReferenceResult } from './reference-result.ts';

/** The reference's seconds per correction over ours, which include probes and commits. */
export function speedupOf(
  ours: Pick<BenchResult, 'secondsPerCorrection'>,
  reference: Pick<ReferenceResult, 'secondsPerCorrection'>,
): number {
  return reference.secondsPerCorrection / ours.secondsPerCorrection;
}

export function sideBySide(ours: BenchResult, reference: ReferenceResult): string {
  const percent = (value: number | null) =>
    value === null ? '-' : `${(100 * value).toFixed(1)} %`;
  const seconds = (value: number) => `${value.toFixed(3)} s`;
  const share = (
    name: string,
    of: (result: BenchResult | ReferenceResult) => number | null,
  ): string[] => [name, percent(of(ours)), percent(of(reference)), ''];
  const stage = (name: string, our: number, its: number): string[] => [
    `  ${name}`,
    seconds(our / ours.corrections),
    seconds(its / reference.corrections),
    '',
  ];
  const ratio = (value: number) => `${value.toFixed(1)} x`;
  const spent = ours.stages;
  const rows: string[][] = [
    ['', 'Errata', 'reference', ''],
    [
      'corrections',
      ...[ours, reference].map((result) => `${result.corrections} in ${result.batches}`),
      '',
    ],
    share('efficacy, target is argmax', (result) => result.efficacy),
    share('efficacy, greedy decoding', (result) => result.efficacyGreedy),
    ['  prompt read token by token', '', percent(reference.efficacyTokenByToken), ''],
    share('p(new) > p(old)', (result) => result.preference),
    share('paraphrases p(new) > p(old)', (result) => result.paraphrase),
    share('paraphrases, target is argmax', (result) => result.paraphraseArgmax),
    share('neighbours unchanged', (result) => result.neighboursUnchanged),
    [
      'perplexity, edited / base',
      ours.perplexityRatio.toFixed(4),
      reference.perplexityRatio.toFixed(4),
      '',
    ],
    share('ordinary tokens behind a gate', (result) => result.ordinaryOpenShare),
    [
      'time per correction',
      seconds(ours.secondsPerCorrection),
      seconds(reference.secondsPerCorrection),
      ratio(speedupOf(ours, reference)),
    ],
    stage('context and targets', spent.context + spent.targets, reference.stages.targets),
    stage('keys', spent.keys, reference.stages.keys),
    stage('solve', spent.solve, reference.stages.solve),
    stage('gate or hook', spent.hook, reference.stages.gate),
    ['  probes and commit', seconds((spent.probes + spent.commit) / ours.corrections), '-', ''],
    [
      'peak memory',
      ...[ours, reference].map((result) => `${(result.peakRssBytes / 1e9).toFixed(2)} GB`),
      '',
    ],
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

const COLUMNS = [32, 14, 14, 8];

function line(cells: string[]): string {
  return cells
    .map((cell, i) => (i === 0 ? cell.padEnd(COLUMNS[i]!) : cell.padStart(COLUMNS[i]!)))
    .join('')
    .trimEnd();
}
