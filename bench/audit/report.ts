import { circumstancesText, type Circumstances } from '../circumstances.ts';
import { digits, markdownTable, type Column } from '../tables.ts';
import type { VerifyFigures } from './byte-changes.ts';
import type { RevertFigures } from './reverted-version.ts';
import type { WhySeconds } from './errata-command.ts';

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
  /** The output of `errata rebuild --json`. */
  rebuild?: { seconds: number; report: unknown };
}

export function auditReport(result: AuditResult): string {
  const { lineage, data, model, why, verify, revert, rebuild } = result;
  const sections = [
    circumstancesText('Audit', result),
    `${lineage.corrections} corrections (${data}) on ${model} in ${lineage.versions} versions of \
${lineage.batch}, of which ${lineage.hold} are active at HEAD; \
${lineage.secondsPerCorrection.toFixed(2)} s per correction.\n`,
    why && whySection(why),
    verify && verifySection(verify),
    revert && revertSection(revert),
    rebuild && rebuildSection(rebuild),
  ];
  return sections.filter((section) => section !== undefined).join('\n');
}

function whySection(asked: readonly WhySeconds[]): string {
  const sorted = ({ seconds }: WhySeconds) => [...seconds].sort((a, b) => a - b);
  const columns: Column<WhySeconds>[] = [
    ['asked with', 'asked'],
    ['times', ({ seconds }) => seconds.length],
    ['named the correction', 'named'],
    ['median, s', (why) => sorted(why)[why.seconds.length >> 1]!, digits(2)],
    ['longest, s', (why) => sorted(why).at(-1)!, digits(2)],
  ];
  return `## errata why

From the start of the command's process to its end, one after the other.

${markdownTable(columns, asked)}`;
}

function verifySection(figures: VerifyFigures): string {
  const { seconds, sound, versions, objects, bytes, changes } = figures;
  const missed = changes.missed.map((where) => `\n- missed: ${where}`).join('');
  return `## errata verify

${sound ? 'Sound' : 'NOT SOUND'}: ${versions} versions, ${objects} objects, \
${(bytes / 1e6).toFixed(0)} MB, read and checked in \
${seconds.map((one) => one.toFixed(2)).join(', ')} s.

${changes.found} of ${changes.made} random changes of a single byte were found, each by checking \
everything (${changes.seconds.toFixed(0)} s in all).${missed}
`;
}

function revertSection(figures: RevertFigures): string {
  const { head, undone, version, seconds, undoneFacts, otherFacts, after } = figures;
  return `## errata revert

Version ${undone} of ${head} undone in version ${version}, in ${seconds.toFixed(1)} s, with the \
verdict of any batch (retention ${after.retention ?? '-'}, perplexity x \
${after.canaryRatio.toFixed(4)}).

- Its ${undoneFacts.corrections} facts: ${undoneFacts.asBase} of ${undoneFacts.prompts} prompts \
(own, paraphrases, neighbours) are answered as by the base model, bit for bit; before the undo \
${undoneFacts.differedBefore} were answered differently.
- The ${otherFacts.corrections} others: ${otherFacts.asBefore} of ${otherFacts.prompts} prompts \
are answered as before, bit for bit.
`;
}

function rebuildSection({ seconds, report }: NonNullable<AuditResult['rebuild']>): string {
  return `## errata rebuild

${seconds.toFixed(0)} s, including the loading of the model.

\`\`\`json
${JSON.stringify(report, null, 2).slice(0, REPORT_CHARACTERS_MAX)}
\`\`\`
`;
}

const REPORT_CHARACTERS_MAX = 4_000;
