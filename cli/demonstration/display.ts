/**
 * The demonstration as a terminal shows it: the stream as it passes, the corrections at the end,
 * the checks.
 */
import { percent, shortened, type Output } from '../terminal/output.ts';
import type { StatusLine } from '../terminal/status-line.ts';
import type { CorrectionResult, DemonstrationEvent, DemonstrationReport } from './run.ts';

/** Shows one event. */
export function showEvent(output: Output, line: StatusLine, event: DemonstrationEvent): void {
  const { bold, cyan, dim, green, red, yellow } = output.colours;
  switch (event.kind) {
    case 'sent':
      line.above(
        `${cyan('→')} ${SENT_WORDS[event.what]}: ${event.records} record${event.records === 1 ? '' : 's'} to ${event.topic}`,
      );
      break;
    case 'version': {
      const { entry } = event;
      const { after } = entry.probes;
      const change = [
        entry.added.length > 0 ? `+${entry.added.length}` : '',
        entry.removed.length > 0 ? `-${entry.removed.length}` : '',
      ]
        .join(' ')
        .trim();
      line.above(
        `${green('✓')} ${bold(`version ${entry.version}`.padEnd(11))} ${change.padEnd(6)} ${dim(`after ${event.secondsAfterSending.toFixed(1).padStart(5)} s`)}   effective ${percent(after.efficacy).padStart(6)}  paraphrases ${percent(after.generalisation).padStart(6)}  neighbours ${percent(after.locality).padStart(6)}`,
      );
      break;
    }
    case 'outcome':
      if (event.status === 'QUARANTINED')
        line.above(
          `${red('✗')} ${bold('quarantined')} ${shortened(`${event.id}: ${event.reason ?? ''}`, output.columns - 16)}`,
        );
      else if (event.status === 'SUPERSEDED' || event.status === 'RETRACTED')
        line.above(
          `${yellow('↺')} ${event.status.toLowerCase().padEnd(11)} ${shortened(event.id, output.columns - 16)}`,
        );
      break;
    case 'dead-letter':
      line.above(
        `${red('✗')} ${bold('dead letter')} ${shortened(event.message, output.columns - 16)}`,
      );
      break;
    case 'decided':
      line.set('corrections decided', event.decided, event.of);
      break;
    case 'asking':
      line.set('asking the newest version', event.asked, event.of);
      break;
  }
}

const SENT_WORDS = {
  corrections: 'corrections, some of them malformed',
  superseding: 'a second correction of a committed fact',
  retraction: 'a retraction',
};

/** The corrections at the end, one with its first paraphrase below it, and the checks. */
export function showReport(output: Output, report: DemonstrationReport): void {
  const { bold, dim, green, red } = output.colours;
  const rows = [...report.results]
    .sort((a, b) => (a.version ?? Infinity) - (b.version ?? Infinity))
    .flatMap((result) => rowsOf(result, output));
  const answerColumns = Math.floor((output.columns - FIXED_COLUMNS) * 0.2);
  const promptColumns = output.columns - FIXED_COLUMNS - 2 * answerColumns;
  const head = ['v', 'prompt', 'before', 'after', 'para', 'near', 'end'];
  const widths = [
    VERSION_COLUMNS,
    promptColumns,
    answerColumns,
    answerColumns,
    SHARE_COLUMNS,
    SHARE_COLUMNS,
    END_COLUMNS,
  ];
  const cut = rows.map((row) =>
    row.map(({ text, colour }, column) =>
      colour(column === 1 ? endOf(text, promptColumns - 2) : shortened(text, widths[column]! - 2)),
    ),
  );
  output.heading('Corrections, each with its first paraphrase');
  output.line(output.table(head, cut, { widths }));
  output.line(dim(LEGEND));
  output.heading('Checks');
  for (const check of report.checks)
    output.line(
      `${check.passed ? green('✓') : red('✗')} ${check.what.padEnd(CHECK_COLUMNS)}${dim(shortened(check.measured, output.columns - CHECK_COLUMNS - 2))}`,
    );
  output.line(
    `\n${report.passed ? green(bold('The demonstration worked')) : red(bold('The demonstration did not work'))}: ${report.results.length} corrections, HEAD is version ${report.head}, ${report.seconds.toFixed(0)} s.`,
  );
}

const VERSION_COLUMNS = 4;
const SHARE_COLUMNS = 6;
const END_COLUMNS = 7;
/** All columns but the prompt and the two answers. */
const FIXED_COLUMNS = VERSION_COLUMNS + 2 * SHARE_COLUMNS + END_COLUMNS;
const CHECK_COLUMNS = 70;

const LEGEND = `v: the version that made it; para: paraphrases with the new answer; near: neighbours unchanged;
end: whether the newest version still gives it (↺: superseded or retracted).`;

interface Cell {
  text: string;
  colour: (text: string) => string;
}

function rowsOf(result: CorrectionResult, output: Output): Cell[][] {
  const { dim, green, red } = output.colours;
  const plain = (text: string): Cell => ({ text, colour: (shown) => shown });
  const pale = (text: string): Cell => ({ text, colour: dim });
  const { probe } = result;
  const first = [
    plain(result.version === null ? '–' : String(result.version)),
    plain(result.correction.prompt),
    plain(clauseOf(probe?.answerBefore ?? '')),
    { text: clauseOf(probe?.answerAfter ?? ''), colour: probe?.effective === true ? green : red },
    shareOf(
      probe?.paraphrases.map((one) => one.holds),
      output,
    ),
    shareOf(
      probe?.neighbours.map((one) => one.unchanged),
      output,
    ),
    result.replaced !== null
      ? pale('↺')
      : result.holds
        ? { text: '✓', colour: green }
        : { text: 'lost', colour: red },
  ];
  const paraphrase = probe?.paraphrases[0];
  if (paraphrase === undefined) return [first];
  return [
    first,
    [
      pale(''),
      pale(paraphrase.prompt),
      pale(clauseOf(paraphrase.answerBefore)),
      {
        text: clauseOf(paraphrase.answerAfter),
        colour: (text) => dim(paraphrase.holds ? green(text) : red(text)),
      },
      pale(''),
      pale(''),
      pale(''),
    ],
  ];
}

/** The answer up to where its first clause ends: a model goes on talking. */
function clauseOf(answer: string): string {
  return /^\s*\S[^,.;:\n]*/u.exec(answer)?.[0].trim() ?? answer.trim();
}

/** The end of a prompt tells more than its beginning. */
function endOf(text: string, charactersMax: number): string {
  return text.length <= charactersMax ? text : `…${text.slice(1 - charactersMax)}`;
}

function shareOf(values: boolean[] | undefined, output: Output): Cell {
  const { dim, green, yellow, red } = output.colours;
  if (values === undefined || values.length === 0) return { text: '–', colour: dim };
  const good = values.filter(Boolean).length;
  return {
    text: `${good}/${values.length}`,
    colour: good === values.length ? green : good === 0 ? red : yellow,
  };
}
