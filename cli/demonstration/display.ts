/** The demonstration as a terminal shows it: the stream as it passes, the corrections at the end, the checks. */
import { percent, shortened, type Output } from '../output.ts';
import type { StatusLine } from '../status-line.ts';
import type { CorrectionResult, DemonstrationEvent, DemonstrationReport } from './run.ts';

/** Shows one event. */
export function showEvent(output: Output, line: StatusLine, event: DemonstrationEvent): void {
  const { bold, cyan, dim, green, red, yellow } = output.colours;
  switch (event.kind) {
    case 'sent':
      line.above(`${cyan('→')} ${SENT_WORDS[event.what]}: ${event.records} record${event.records === 1 ? '' : 's'} to ${event.topic}`);
      break;
    case 'version': {
      const { entry } = event;
      const { after } = entry.probes;
      const change = [entry.added.length > 0 ? `+${entry.added.length}` : '', entry.removed.length > 0 ? `-${entry.removed.length}` : ''].join(' ').trim();
      line.above(
        `${green('✓')} ${bold(`version ${entry.version}`.padEnd(11))} ${change.padEnd(6)} ${dim(`after ${event.secondsAfterSending.toFixed(1).padStart(5)} s`)}   effective ${percent(after.efficacy).padStart(6)}  paraphrases ${percent(after.generalisation).padStart(6)}  neighbours ${percent(after.locality).padStart(6)}`,
      );
      break;
    }
    case 'outcome':
      if (event.status === 'QUARANTINED') line.above(`${red('✗')} ${bold('quarantined')} ${shortened(`${event.id}: ${event.reason ?? ''}`, output.columns - 16)}`);
      else if (event.status === 'SUPERSEDED' || event.status === 'RETRACTED') line.above(`${yellow('↺')} ${event.status.toLowerCase().padEnd(11)} ${shortened(event.id, output.columns - 16)}`);
      break;
    case 'dead-letter':
      line.above(`${red('✗')} ${bold('dead letter')} ${shortened(event.message, output.columns - 16)}`);
      break;
    case 'decided':
      line.set('corrections decided', event.decided, event.of);
      break;
    case 'asking':
      line.set('asking the newest version', event.asked, event.of);
      break;
  }
}

const SENT_WORDS = { corrections: 'corrections, some of them malformed', superseding: 'a second correction of a committed fact', retraction: 'a retraction' };

const PARAPHRASE_NOTE = 'paraphr. and neighb. count the prompts that took the new answer and those whose answer stayed.';

/** The table of corrections: answers before and after, and the version that made each. */
export function showReport(output: Output, report: DemonstrationReport): void {
  const { bold, dim, green, red } = output.colours;
  const fixed = 4 + 10 + 9 + 8;
  const answerColumns = Math.floor((output.columns - fixed) * 0.24);
  const promptColumns = output.columns - fixed - 2 * answerColumns - 1;
  const rows = [...report.results]
    .sort((a, b) => (a.version ?? 1e9) - (b.version ?? 1e9))
    .map((result) => [
      result.version === null ? dim('–') : String(result.version),
      shortened(result.correction.prompt, promptColumns - 2),
      dim(shortened(result.before, answerColumns - 2)),
      afterOf(result, answerColumns - 2, output),
      ratio(result.probe?.paraphrases.map((probe) => probe.holds), output),
      ratio(result.probe?.neighbours.map((probe) => probe.unchanged), output),
      result.replaced === null ? (result.holds ? green('holds') : red('lost')) : dim(result.replaced === 'superseded' ? 'replaced' : 'retract.'),
    ]);
  output.heading('Corrections');
  output.line(output.table(['v', 'prompt', 'before', 'after', 'paraphr.', 'neighb.', 'at end'], rows, { widths: [4, promptColumns, answerColumns, answerColumns, 10, 9, 8] }));
  output.line(dim(PARAPHRASE_NOTE));
  const example = report.results.find((result) => result.replaced === null && result.probe?.paraphrases.some((probe) => probe.holds));
  const paraphrase = example?.probe?.paraphrases.find((probe) => probe.holds);
  if (paraphrase !== undefined) output.line(dim(`A paraphrase: "${paraphrase.prompt}" — before "${shortened(paraphrase.answerBefore, 24)}", after "${shortened(paraphrase.answerAfter, 24)}".`));
  output.heading('Checks');
  for (const check of report.checks) output.line(`${check.passed ? green('✓') : red('✗')} ${check.what.padEnd(Math.min(70, output.columns - 32))} ${dim(check.measured)}`);
  output.line(`\n${report.passed ? green(bold('The demonstration worked')) : red(bold('The demonstration did not work'))}: ${report.results.length} corrections, ${report.head} versions, ${report.seconds.toFixed(0)} s.`);
}

/** The answer of the version that made the correction. */
function afterOf(result: CorrectionResult, columns: number, output: Output): string {
  const answer = shortened(result.probe?.answerAfter ?? result.atTheEnd, columns);
  if (result.probe === null) return output.colours.red(answer);
  return result.probe.effective ? output.colours.green(answer) : output.colours.red(answer);
}

function ratio(values: boolean[] | undefined, output: Output): string {
  if (values === undefined || values.length === 0) return output.colours.dim('–');
  const good = values.filter(Boolean).length;
  const text = `${good}/${values.length}`;
  return good === values.length ? output.colours.green(text) : good === 0 ? output.colours.red(text) : output.colours.yellow(text);
}
