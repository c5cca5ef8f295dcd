/** What is stored of one correction, as it reads on a terminal. */
import { historyLink } from './history-link.ts';
import type { Configuration } from '../../infra/config/configuration.ts';
import type { KafkaPosition } from '../../schemas/correction.ts';
import type { Outcome, ProbeScores } from '../../schemas/editing.ts';
import type { SubjectTouch, Touch, Trace, VersionMark } from '../../versions/audit/trace.ts';
import { percent, shortened, type Output } from '../terminal/output.ts';

/** Paraphrases, neighbours and touches that are listed; `--json` has all. */
const LISTED_MAX = 8;
const LABEL_COLUMNS = 13;
const PROMPT_SHOWN_MAX = 400;

export function traceText(output: Output, configuration: Configuration, trace: Trace): string {
  const { bold, dim } = output.colours;
  const field = (name: string, value: string): string =>
    `  ${dim(name.padEnd(LABEL_COLUMNS))}${value}`;
  const { correction, committed, outcome } = trace;
  const width = output.columns - LABEL_COLUMNS - 2;
  const lines = [
    `${bold(`${trace.kind} ${shortened(trace.id, width)}`)}  ${stateInWords(output, trace)}`,
  ];
  if (correction !== null) {
    lines.push(
      field(
        'says',
        `${shortened(correction.prompt, PROMPT_SHOWN_MAX)} ${bold(`→ ${shortened(correction.target, PROMPT_SHOWN_MAX)}`)}`,
      ),
    );
    lines.push(field('subject', shortened(correction.subject, width)));
    lines.push(field('asked by', shortened(correction.source, width)));
    lines.push(field('issued', new Date(correction.issuedAt).toISOString()));
  }
  lines.push(field('record', placeOf(outcome.position)));
  for (const { id, outcome: before } of trace.replayOf)
    lines.push(
      field(
        'sent again',
        `${shortened(id, 60)}${before === null ? '' : `, which was ${outcomeInWords(before)}`}`,
      ),
    );
  for (const { id, version } of trace.replayedBy)
    lines.push(
      field('repaired', `sent again as "${shortened(id, 60)}", committed in version ${version}`),
    );
  if (committed === null) {
    lines.push(
      field('became', `${outcomeInWords(outcome)}, ${new Date(outcome.decidedAt).toISOString()}`),
      field('batch', outcome.batchId),
    );
    const numbers = Object.entries(outcome.measured).filter(([name]) => name !== 'code');
    if (numbers.length > 0)
      lines.push(
        field(
          'measured',
          shortened(numbers.map(([name, value]) => `${name} ${value}`).join(', '), width),
        ),
      );
    return lines.join('\n');
  }
  lines.push(
    field(
      trace.kind === 'retraction' ? 'carried out' : 'committed',
      `version ${committed.version}, ${committed.createdAt}  ${dim(committed.hash.slice(0, 16))}`,
    ),
    field('batch', committed.batchId),
    field('workflow', `${committed.workflow.workflowId}, run ${committed.workflow.runId}`),
    field('', dim(historyHint(configuration, committed))),
  );
  const { probe } = committed;
  if (probe !== null) {
    lines.push(
      field(
        'its answer',
        `${JSON.stringify(probe.answerBefore)} before, ${bold(JSON.stringify(probe.answerAfter))} after: ${probe.effective ? 'the target' : 'NOT the target'}, log-probability ${probe.targetLogProbability.toFixed(3)} per token`,
      ),
    );
    if (probe.paraphrases.length > 0)
      lines.push(
        field(
          'paraphrases',
          `${probe.paraphrases.filter(({ holds }) => holds).length} of ${probe.paraphrases.length} hold`,
        ),
        ...listed(probe.paraphrases, (one) => answered(output, one, one.holds)),
      );
    if (probe.neighbours.length > 0)
      lines.push(
        field(
          'neighbours',
          `${probe.neighbours.filter(({ unchanged }) => unchanged).length} of ${probe.neighbours.length} stayed`,
        ),
        ...listed(probe.neighbours, (one) => answered(output, one, one.unchanged)),
      );
  }
  lines.push(
    field('its version', 'scores before and after'),
    ...scoresTable(output, committed.scores)
      .split('\n')
      .map((line) => `    ${line}`),
  );
  lines.push(...laterLines(output, trace, field));
  return lines.join('\n');
}

export function placeOf({ topic, partition, offset }: KafkaPosition): string {
  return `topic ${topic}, partition ${partition}, offset ${offset}`;
}

export function outcomeInWords({ status, version, reason, measured }: Outcome): string {
  const code = typeof measured['code'] === 'string' ? ` (${measured['code']})` : '';
  return `${status.toLowerCase().replaceAll('_', ' ')}${version === null ? '' : ` in version ${version}`}${code}${reason === null ? '' : `: ${shortened(reason, 300)}`}`;
}

/**
 * Where a version's history is to be seen: in Temporal's page, where one is known, and by a command
 * that also reads the archive.
 */
export function historyHint(
  configuration: Configuration,
  { workflow, version }: Pick<VersionMark, 'workflow' | 'version'>,
): string {
  const link = historyLink(configuration, workflow);
  return `${link === null ? '' : `${link}  `}errata history ${version}`;
}

function stateInWords(
  { colours }: Output,
  { state, kind, committed, later, outcome }: Trace,
): string {
  const last = later.at(-1);
  switch (state) {
    case 'holds':
      return colours.green(
        `holds since version ${last === undefined ? committed!.version : last.version}`,
      );
    case 'left':
      return colours.yellow(
        `held from version ${committed!.version}, ${last === undefined ? 'and left' : `${last.change} in version ${last.version}`}`,
      );
    case 'carried-out':
      return colours.cyan(`carried out in version ${committed!.version}`);
    case 'never-held':
      return colours.red(
        kind === 'retraction'
          ? outcome.status.toLowerCase().replaceAll('_', ' ')
          : `never held: ${outcome.status.toLowerCase().replaceAll('_', ' ')}`,
      );
  }
}

function laterLines(
  output: Output,
  { kind, later, sameSubject }: Trace,
  field: (name: string, value: string) => string,
): string[] {
  const lines: string[] = [];
  if (kind === 'retraction')
    lines.push(
      ...later.map((touch, i) =>
        field(
          i === 0 ? 'took out' : '',
          `${touch.correctionId} ${output.colours.dim(`(${touch.change})`)}`,
        ),
      ),
    );
  else if (later.length === 0) lines.push(field('later', 'no later version touched it'));
  else lines.push(...later.map((touch, i) => field(i === 0 ? 'later' : '', touchInWords(touch))));
  const about = sameSubject.slice(-LISTED_MAX);
  if (sameSubject.length > about.length)
    lines.push(field('same subject', `${sameSubject.length} changes, the last ${about.length}:`));
  lines.push(
    ...about.map((touch, i) =>
      field(
        i === 0 && sameSubject.length === about.length ? 'same subject' : '',
        subjectTouchInWords(output, touch),
      ),
    ),
  );
  return lines;
}

function touchInWords({ version, createdAt, change, by, successor, undo }: Touch): string {
  const asked =
    undo === null
      ? ''
      : ` (${shortened(undo.requestedBy, 60)}${undo.reason === '' ? '' : `: ${shortened(undo.reason, 120)}`})`;
  return `version ${version}, ${createdAt}: ${change} by ${shortened(by, 80)}${successor === null ? '' : `, which says "${shortened(successor.target, 60)}"`}${asked}`;
}

function subjectTouchInWords(
  { colours }: Output,
  { version, correctionId, change, prompt, target }: SubjectTouch,
): string {
  const says =
    prompt === null || target === null
      ? ''
      : `: ${shortened(prompt, 60)} → ${shortened(target, 40)}`;
  return `version ${version} ${change} ${shortened(correctionId, 60)}${colours.dim(says)}`;
}

function answered(
  { colours }: Output,
  {
    prompt,
    answerBefore,
    answerAfter,
  }: { prompt: string; answerBefore: string; answerAfter: string },
  good: boolean,
): string {
  const answers =
    answerBefore === answerAfter
      ? JSON.stringify(answerAfter)
      : `${JSON.stringify(answerBefore)} → ${JSON.stringify(answerAfter)}`;
  return `${good ? colours.green('✓') : colours.red('✗')} ${shortened(prompt, 70)}  ${colours.dim(answers)}`;
}

function listed<Item>(items: readonly Item[], text: (item: Item) => string): string[] {
  const more = items.length - LISTED_MAX;
  return [
    ...items.slice(0, LISTED_MAX).map((item) => `    ${text(item)}`),
    ...(more > 0 ? [`    and ${more} more`] : []),
  ];
}

export function scoresTable(
  output: Output,
  { before, after }: { before: ProbeScores; after: ProbeScores },
  names: [string, string] = ['before', 'after'],
): string {
  return output.table(
    [
      '',
      'effective',
      'decoded',
      'paraphrases',
      'neighbours',
      'earlier ones',
      'perplexity',
      'edit norm',
    ],
    [[names[0], before] as const, [names[1], after] as const].map(([name, scores]) => [
      name,
      percent(scores.efficacy),
      percent(scores.efficacyGreedy),
      percent(scores.generalisation),
      percent(scores.locality),
      percent(scores.retention),
      `× ${scores.canaryRatio.toFixed(4)}`,
      scores.editNorm.toFixed(3),
    ]),
  );
}
