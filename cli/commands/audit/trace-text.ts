/** Formats the trace of one correction for a terminal. */
import type { Configuration } from '../../../infra/config/configuration.ts';
import type { KafkaPosition } from '../../../schemas/correction.ts';
import type { Outcome } from '../../../schemas/outcome.ts';
import type { Commit, SubjectTouch, Touch, Trace } from '../../../versions/audit/trace.ts';
import type { VersionMark } from '../../../versions/audit/version-mark.ts';
import type { Output } from '../../terminal/output.ts';
import { bold, cyan, dim, green, red, yellow } from '../../terminal/colours.ts';
import {
  type Fields,
  fieldLines,
  limited,
  mark,
  shortened,
  statusText,
} from '../../terminal/text.ts';
import { scoresTable } from './version-text.ts';

/** Maximum number of listed paraphrases, neighbours and changes. */
const LISTED_MAX = 8;
const NAME_COLUMNS = 13;
const PROMPT_SHOWN_MAX = 400;

export function traceText(output: Output, configuration: Configuration, trace: Trace): string {
  const { kind, id, committed } = trace;
  const width = output.columns - NAME_COLUMNS - 2;
  const heading = `${bold(`${kind} ${shortened(id, width)}`)}  ${stateText(trace)}`;
  const lines = (fields: Fields) => fieldLines(fields, NAME_COLUMNS).map((line) => `  ${line}`);
  const record = lines([...correctionFields(trace, width), ...resubmissionFields(trace)]);
  if (committed === null)
    return [heading, ...record, ...lines(refusalFields(trace.outcome, width))].join('\n');
  const scores = scoresTable(committed.scores).split('\n');
  return [
    heading,
    ...record,
    ...lines(commitFields(configuration, trace, committed)),
    ...probeLines(committed, lines),
    ...lines([['its version', 'scores before and after']]),
    ...scores.map((line) => `    ${line}`),
    ...lines([...laterFields(trace), ...subjectFields(trace)]),
  ].join('\n');
}

function correctionFields({ correction }: Trace, width: number): Fields {
  if (correction === null) return [];
  const { prompt, target, subject, source, issuedAt } = correction;
  const says = bold(`→ ${shortened(target, PROMPT_SHOWN_MAX)}`);
  return [
    ['says', `${shortened(prompt, PROMPT_SHOWN_MAX)} ${says}`],
    ['subject', shortened(subject, width)],
    ['source', shortened(source, width)],
    ['issued', new Date(issuedAt).toISOString()],
  ];
}

function resubmissionFields({ outcome, replayOf, replayedBy }: Trace): Fields {
  return [
    ['record', placeText(outcome.position)],
    ...replayOf.map(({ id, outcome: before }): Fields[number] => [
      'resubmits',
      `${shortened(id, 60)}${before === null ? '' : `, which was ${refusalText(before)}`}`,
    ]),
    ...replayedBy.map(({ id, version }): Fields[number] => [
      'resubmitted',
      `as "${shortened(id, 60)}", committed in version ${version}`,
    ]),
  ];
}

function refusalFields(outcome: Outcome, width: number): Fields {
  const measured = Object.entries(outcome.measured)
    .filter(([name]) => name !== 'code')
    .map(([name, value]) => `${name} ${value}`);
  return [
    ['outcome', `${refusalText(outcome)}, ${new Date(outcome.decidedAt).toISOString()}`],
    ['batch', outcome.batchId],
    ['measured', measured.length === 0 ? null : shortened(measured.join(', '), width)],
  ];
}

function commitFields(configuration: Configuration, { kind }: Trace, committed: Commit): Fields {
  const { version, createdAt, hash, batchId, workflow } = committed;
  return [
    [
      kind === 'retraction' ? 'carried out' : 'committed',
      `version ${version}, ${createdAt}  ${dim(hash.slice(0, 16))}`,
    ],
    ['batch', batchId],
    ['workflow', `${workflow.workflowId}, run ${workflow.runId}`],
    ['', dim(historyHint(configuration, committed))],
  ];
}

function probeLines({ probe }: Commit, lines: (fields: Fields) => string[]): string[] {
  if (probe === null) return [];
  const { answerBefore, answerAfter, effective, paraphrases, neighbours } = probe;
  const after = bold(JSON.stringify(answerAfter));
  const answers = `${JSON.stringify(answerBefore)} before, ${after} after`;
  const target = effective ? 'the target' : 'NOT the target';
  const probability = `log-probability ${probe.targetLogProbability.toFixed(3)} per token`;
  type Probe = { prompt: string; answerBefore: string; answerAfter: string };
  const list = <P extends Probe>(
    name: string,
    all: P[],
    good: (one: P) => boolean,
    verb: string,
  ) =>
    all.length === 0
      ? []
      : [
          ...lines([[name, `${all.filter(good).length} of ${all.length} ${verb}`]]),
          ...limited(
            all.map((one) => answerLine(one, good(one))),
            LISTED_MAX,
          ),
        ];
  return [
    ...lines([['its answer', `${answers}: ${target}, ${probability}`]]),
    ...list('paraphrases', paraphrases, ({ holds }) => holds, 'give the target'),
    ...list('neighbours', neighbours, ({ unchanged }) => unchanged, 'are unchanged'),
  ];
}

function answerLine(
  { prompt, answerBefore, answerAfter }: Record<'prompt' | 'answerBefore' | 'answerAfter', string>,
  good: boolean,
): string {
  const [before, after] = [JSON.stringify(answerBefore), JSON.stringify(answerAfter)];
  const answers = before === after ? after : `${before} → ${after}`;
  return `    ${mark(good)} ${shortened(prompt, 70)}  ${dim(answers)}`;
}

function laterFields({ kind, later }: Trace): Fields {
  if (kind === 'retraction')
    return named(
      'removed',
      later.map(({ correctionId, change }) => `${correctionId} ${dim(`(${change})`)}`),
    );
  if (later.length === 0) return [['later', 'unchanged by later versions']];
  return named('later', later.map(touchText));
}

function subjectFields({ sameSubject }: Trace): Fields {
  const shown = sameSubject.slice(-LISTED_MAX).map((touch) => subjectTouchText(touch));
  if (sameSubject.length === shown.length) return named('same subject', shown);
  return [
    ['same subject', `${sameSubject.length} changes, the last ${shown.length}:`],
    ...shown.map((line): Fields[number] => ['', line]),
  ];
}

/** Shows the name only before the first value. */
function named(name: string, values: string[]): Fields {
  return values.map((value, i) => [i === 0 ? name : '', value]);
}

function touchText({ version, createdAt, change, by, successor, undo }: Touch): string {
  const says = successor === null ? '' : `, which says "${shortened(successor.target, 60)}"`;
  const who = undo === null ? '' : ` (${requestText(undo)})`;
  return `version ${version}, ${createdAt}: ${change} by ${shortened(by, 80)}${says}${who}`;
}

function requestText({ requestedBy, reason }: { requestedBy: string; reason: string }): string {
  return `${shortened(requestedBy, 60)}${reason === '' ? '' : `: ${shortened(reason, 120)}`}`;
}

function subjectTouchText({ version, correctionId, change, prompt, target }: SubjectTouch): string {
  const says =
    prompt === null || target === null
      ? ''
      : `: ${shortened(prompt, 60)} → ${shortened(target, 40)}`;
  return `version ${version} ${change} ${shortened(correctionId, 60)}${dim(says)}`;
}

function stateText({ state, kind, committed, later, outcome }: Trace): string {
  const last = later.at(-1);
  const since = committed?.version;
  switch (state) {
    case 'holds':
      return green(`holds since version ${last?.version ?? since}`);
    case 'left': {
      const end = last === undefined ? 'and left' : `${last.change} in version ${last.version}`;
      return yellow(`held from version ${since}, ${end}`);
    }
    case 'carried-out':
      return cyan(`carried out in version ${since}`);
    case 'never-held': {
      const status = statusText(outcome.status);
      return red(kind === 'retraction' ? status : `never held: ${status}`);
    }
  }
}

export function placeText({ topic, partition, offset }: KafkaPosition): string {
  return `topic ${topic}, partition ${partition}, offset ${offset}`;
}

export function refusalText({ status, version, reason, measured }: Outcome): string {
  const code = typeof measured['code'] === 'string' ? ` (${measured['code']})` : '';
  const where = version === null ? '' : ` in version ${version}`;
  const why = reason === null ? '' : `: ${shortened(reason, 300)}`;
  return `${statusText(status)}${where}${code}${why}`;
}

/** Returns the URL of a run's history in Temporal's web page; null if no page is known. */
export function historyLink(
  { temporal: { pageUrl, namespace } }: Pick<Configuration, 'temporal'>,
  { workflowId, runId }: { workflowId: string; runId: string },
): string | null {
  if (pageUrl === null) return null;
  const workflow = `workflows/${encodeURIComponent(workflowId)}/${runId}/history`;
  return `${pageUrl.replace(/\/$/, '')}/namespaces/${encodeURIComponent(namespace)}/${workflow}`;
}

/** Points to how a version was made: Temporal's page, if known, and a command. */
export function historyHint(
  configuration: Configuration,
  { workflow, version }: Pick<VersionMark, 'workflow' | 'version'>,
): string {
  const link = historyLink(configuration, workflow);
  return `${link === null ? '' : `${link}  `}errata history ${version}`;
}
