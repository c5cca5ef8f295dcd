/** What was measured, as text. */
import { circumstancesText, type Circumstances } from '../circumstances.ts';
import type { VerifyFigures } from './byte-changes.ts';
import type { RevertFigures } from './reverted-version.ts';
import type { WhySeconds } from './why-seconds.ts';

export interface AuditResult extends Circumstances {
  data: string;
  model: string;
  lineage: {
    corrections: number;
    batch: number;
    versions: number;
    hold: number;
    secondsPerCorrection: number;
  };
  why?: WhySeconds[];
  verify?: VerifyFigures;
  revert?: RevertFigures;
  /** As `errata rebuild --json` prints it. */
  rebuild?: { seconds: number; report: unknown };
}

export function auditReport(result: AuditResult): string {
  const { lineage } = result;
  return [
    circumstancesText('Audit', result),
    `${lineage.corrections} corrections (${result.data}) on ${result.model} in ${lineage.versions} versions of ${lineage.batch}, of which ${lineage.hold} hold at HEAD; ${lineage.secondsPerCorrection.toFixed(2)} s per correction.\n`,
    ...(result.why === undefined ? [] : [whySection(result.why)]),
    ...(result.verify === undefined ? [] : [verifySection(result.verify)]),
    ...(result.revert === undefined ? [] : [revertSection(result.revert)]),
    ...(result.rebuild === undefined ? [] : [rebuildSection(result.rebuild)]),
  ].join('\n');
}

function whySection(asked: readonly WhySeconds[]): string {
  const rows = asked.map(({ asked: what, seconds, named }) => {
    const sorted = [...seconds].sort((a, b) => a - b);
    return `| ${what} | ${seconds.length} | ${named} | ${sorted[Math.floor(sorted.length / 2)]!.toFixed(2)} | ${sorted.at(-1)!.toFixed(2)} |`;
  });
  return `## errata why\n\nFrom the start of the command's process to its end, one after the other.\n\n| asked with | times | named the correction | median, s | longest, s |\n|---|---|---|---|---|\n${rows.join('\n')}\n`;
}

function verifySection({
  seconds,
  sound,
  versions,
  objects,
  bytes,
  changes,
}: VerifyFigures): string {
  const missed = changes.missed.map((where) => `\n- missed: ${where}`).join('');
  return `## errata verify\n\n${sound ? 'Sound' : 'NOT SOUND'}: ${versions} versions, ${objects} objects, ${(bytes / 1e6).toFixed(0)} MB, read and checked in ${seconds.map((one) => one.toFixed(2)).join(', ')} s.\n\nOf ${changes.made} random changes of a single byte, each looked for by checking everything, ${changes.found} were found (${changes.seconds.toFixed(0)} s in all).${missed}\n`;
}

function revertSection({
  head,
  undone,
  version,
  seconds,
  undoneFacts,
  otherFacts,
  after,
}: RevertFigures): string {
  return [
    `## errata revert\n`,
    `Version ${undone} of ${head} undone in version ${version}, in ${seconds.toFixed(1)} s, with the verdict of any batch (retention ${after.retention ?? '-'}, perplexity x ${after.canaryRatio.toFixed(4)}).\n`,
    `- Its ${undoneFacts.corrections} facts: ${undoneFacts.asBase} of ${undoneFacts.prompts} prompts (own, paraphrases, neighbours) are answered as by the base model, bit for bit; before, ${undoneFacts.differedBefore} were answered otherwise.`,
    `- The ${otherFacts.corrections} others: ${otherFacts.asBefore} of ${otherFacts.prompts} prompts are answered as before, bit for bit.\n`,
  ].join('\n');
}

function rebuildSection({ seconds, report }: NonNullable<AuditResult['rebuild']>): string {
  return `## errata rebuild\n\n${seconds.toFixed(0)} s, the loading of the model with it.\n\n\`\`\`json\n${JSON.stringify(report, null, 2).slice(0, REPORT_CHARACTERS_MAX)}\n\`\`\`\n`;
}

const REPORT_CHARACTERS_MAX = 4_000;
