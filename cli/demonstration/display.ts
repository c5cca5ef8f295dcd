/** Shows the demonstration on a terminal: the stream as it passes, the results, the checks. */
import type { Output } from '../terminal/output.ts';
import { bold, cyan, dim, green, red, yellow } from '../terminal/colours.ts';
import { counted, mark, percent, shortened, table } from '../terminal/text.ts';
import type { StatusLine } from '../terminal/status-line.ts';
import type { CorrectionResult, DemonstrationEvent, DemonstrationReport } from './report.ts';

type EventOf<Kind extends DemonstrationEvent['kind']> = Extract<DemonstrationEvent, { kind: Kind }>;

export function showEvent(output: Output, line: StatusLine, event: DemonstrationEvent): void {
  switch (event.kind) {
    case 'sent': {
      const records = counted(event.records, 'record');
      return line.above(`${cyan('→')} ${SENT[event.what]}: ${records} to ${event.topic}`);
    }
    case 'version':
      return line.above(versionLine(event));
    case 'outcome':
      return showOutcome(output, line, event);
    case 'dead-letter': {
      const message = shortened(event.message, output.columns - 16);
      return line.above(`${red('✗')} ${bold('dead letter')} ${message}`);
    }
    case 'decided':
      return line.set('corrections decided', event.decided, event.of);
    case 'asking':
      return line.set('asking the newest version', event.asked, event.of);
  }
}

const SENT = {
  corrections: 'corrections, some of them malformed',
  superseding: 'a second correction of a committed fact',
  retraction: 'a retraction',
};

function versionLine({ entry, secondsAfterSending }: EventOf<'version'>): string {
  const { version, added, removed, probes } = entry;
  const { efficacy, generalisation, locality } = probes.after;
  const change = [
    added.length > 0 ? `+${added.length}` : '',
    removed.length > 0 ? `-${removed.length}` : '',
  ];
  const share = (name: string, value: number | null): string =>
    `${name} ${percent(value).padStart(6)}`;
  return [
    `${green('✓')} ${bold(`version ${version}`.padEnd(11))} ${change.join(' ').trim().padEnd(6)}`,
    dim(` after ${secondsAfterSending.toFixed(1).padStart(5)} s  `),
    ` ${share('effective', efficacy)}  ${share('paraphrases', generalisation)}`,
    `  ${share('neighbours', locality)}`,
  ].join('');
}

function showOutcome(
  { columns }: Output,
  line: StatusLine,
  { id, status, reason }: EventOf<'outcome'>,
): void {
  if (status === 'QUARANTINED') {
    const text = shortened(`${id}: ${reason ?? ''}`, columns - 16);
    line.above(`${red('✗')} ${bold('quarantined')} ${text}`);
  } else if (status === 'SUPERSEDED' || status === 'RETRACTED')
    line.above(`${yellow('↺')} ${status.toLowerCase().padEnd(11)} ${shortened(id, columns - 16)}`);
}

/** Shows the corrections, each followed by its first paraphrase, and the checks. */
export function showReport(output: Output, report: DemonstrationReport): void {
  const { results, checks, passed, head, seconds } = report;
  const rows = [...results]
    .sort((a, b) => (a.version ?? Infinity) - (b.version ?? Infinity))
    .flatMap(rowsOf);
  output.heading('Corrections, each with its first paraphrase');
  output.line(resultsTable(output, rows));
  output.line(dim(LEGEND));
  output.heading('Checks');
  for (const check of checks) {
    const measured = dim(shortened(check.measured, output.columns - CHECK_COLUMNS - 2));
    output.line(`${mark(check.passed)} ${check.what.padEnd(CHECK_COLUMNS)}${measured}`);
  }
  const verdict = passed
    ? green(bold('The demonstration worked'))
    : red(bold('The demonstration failed'));
  const extent = `${results.length} corrections, HEAD is version ${head}, ${seconds.toFixed(0)} s`;
  output.line(`\n${verdict}: ${extent}.`);
}

const COLUMNS = { version: 4, share: 6, end: 7 };
/** Width of all columns except the prompt and the two answers. */
const FIXED_COLUMNS = COLUMNS.version + 2 * COLUMNS.share + COLUMNS.end;
const CHECK_COLUMNS = 70;

const LEGEND = `v: the version that made it; para: paraphrases with the new answer;
near: neighbours unchanged; end: whether the newest version still gives it
(↺: superseded or retracted).`;

interface Cell {
  text: string;
  colour: (text: string) => string;
}

function resultsTable(output: Output, rows: Cell[][]): string {
  const answer = Math.floor((output.columns - FIXED_COLUMNS) * 0.2);
  const prompt = output.columns - FIXED_COLUMNS - 2 * answer;
  const { version, share, end } = COLUMNS;
  const widths = [version, prompt, answer, answer, share, share, end];
  const cut = rows.map((row) =>
    row.map(({ text, colour }, column) => {
      const width = widths[column]! - 2;
      return colour(column === 1 ? endOf(text, width) : shortened(text, width));
    }),
  );
  const head = ['v', 'prompt', 'before', 'after', 'para', 'near', 'end'];
  return table(head, cut, { widths });
}

function rowsOf(result: CorrectionResult): Cell[][] {
  const plain = (text: string): Cell => ({ text, colour: (shown) => shown });
  const pale = (text: string): Cell => ({ text, colour: dim });
  const answer = (text: string, good: boolean): Cell => ({
    text: clauseOf(text),
    colour: good ? green : red,
  });
  const { probe, version, correction, replaced, holds } = result;
  const end = holds ? { text: '✓', colour: green } : { text: 'lost', colour: red };
  const own = [
    plain(version === null ? '–' : String(version)),
    plain(correction.prompt),
    plain(clauseOf(probe?.answerBefore ?? '')),
    answer(probe?.answerAfter ?? '', probe?.effective === true),
    shareCell(probe?.paraphrases.map((one) => one.holds) ?? []),
    shareCell(probe?.neighbours.map((one) => one.unchanged) ?? []),
    replaced === null ? end : pale('↺'),
  ];
  const paraphrase = probe?.paraphrases[0];
  if (paraphrase === undefined) return [own];
  const { prompt, answerBefore, answerAfter } = paraphrase;
  const after = answer(answerAfter, paraphrase.holds);
  const below = [
    pale(''),
    pale(prompt),
    pale(clauseOf(answerBefore)),
    { ...after, colour: (text: string) => dim(after.colour(text)) },
    ...['', '', ''].map(pale),
  ];
  return [own, below];
}

/** Returns the first clause of an answer; a model keeps talking after it. */
function clauseOf(answer: string): string {
  return /^\s*\S[^,.;:\n]*/u.exec(answer)?.[0].trim() ?? answer.trim();
}

/** Returns the end of a prompt, which says more than its beginning. */
function endOf(text: string, charactersMax: number): string {
  return text.length <= charactersMax ? text : `…${text.slice(1 - charactersMax)}`;
}

function shareCell(values: boolean[]): Cell {
  if (values.length === 0) return { text: '–', colour: dim };
  const good = values.filter(Boolean).length;
  return {
    text: `${good}/${values.length}`,
    colour: good === values.length ? green : good === 0 ? red : yellow,
  };
}
