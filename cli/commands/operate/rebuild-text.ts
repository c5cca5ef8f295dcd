/**
 * Formats a rebuild for a terminal: its plan, its result, and whether it reproduces the lineage.
 */
import type { RebuildPlan } from '../../../operations/rebuild/rebuild-plan.ts';
import type { Rebuilt } from '../../../operations/rebuild/rebuild-run.ts';
import { type LineageReproduction, TOLERANCE } from '../../../operations/rebuild/reproduction.ts';
import type { Output } from '../../terminal/output.ts';
import { bold, dim, green, red, yellow } from '../../terminal/colours.ts';
import { limited, mark, shortened } from '../../terminal/text.ts';

const SHOWN_MAX = 20;

/** True if the rebuild reproduces the lineage and the records agree with the log. */
export function isReproduced({ stopped, reproduction, words }: Rebuilt): boolean {
  const agree = (words?.differences.length ?? 0) === 0;
  return stopped === null && reproduction?.reproduces !== 'no' && agree;
}

export function rebuiltText(rebuilt: Rebuilt, output: Output): string {
  const { kind, lineage, as, due, done, began, head, interrupted, reproduction, seconds } = rebuilt;
  const what = {
    reproduction: 'versions made again',
    fork: 'versions edited anew',
    'from-records': 'batches edited from records',
  }[kind];
  const continued = began > 0 ? dim(` (continued from version ${began})`) : '';
  return [
    `${bold(`${lineage} → ${as}`)}: ${done} of ${due} ${what}, HEAD is version ${head}, ` +
      `${seconds.toFixed(1)} s${continued}`,
    ...(interrupted ? [`${yellow('!')} Stopped; the same command continues from here.`] : []),
    ...recordLines(rebuilt, output),
    ...stoppedLines(rebuilt, output),
    ...(reproduction === null || interrupted ? [] : [reproductionText(reproduction, output)]),
    ...(kind === 'reproduction' ? [] : refusedLines(rebuilt, output)),
  ].join('\n');
}

function recordLines({ records, words }: Rebuilt, output: Output): string[] {
  const lines: string[] = [];
  if (records !== null) {
    const gone =
      records.gone === '0' ? '' : `; ${records.gone} earlier ones are no longer in Kafka`;
    lines.push(`${records.read} records read, ${records.dead} of them are not valid${gone}`);
  }
  if (words === null) return lines;
  const { same, gone, goneExamples, differences } = words;
  const examples = `${goneExamples.slice(0, 3).join(', ')}${gone > 3 ? ', …' : ''}`;
  const missing =
    gone === 0 ? '' : `; ${gone} are no longer in Kafka (${examples}), so the log's text is used`;
  const differing = differences.map(({ id, record, what }) => {
    const difference = shortened(what, output.columns);
    return `  ${red('✗')} ${shortened(id, 60)} (${record}): ${difference}`;
  });
  return [
    ...lines,
    `Text: ${same} of ${words.records} records in Kafka agree with the log${missing}`,
    ...limited(differing, SHOWN_MAX),
  ];
}

function stoppedLines({ stopped }: Rebuilt, output: Output): string[] {
  if (stopped === null) return [];
  const reasons = stopped.reasons.map((reason) => `    ${shortened(reason, 2 * output.columns)}`);
  return [
    `${mark(false)} Version ${stopped.version} could not be made again:`,
    ...limited(reasons, SHOWN_MAX),
  ];
}

function refusedLines({ kind, lineage, refused }: Rebuilt, output: Output): string[] {
  if (refused.length === 0) return ['No correction was refused.'];
  const title = kind === 'fork' ? `Hold only in ${lineage}` : 'Refused';
  const lines = refused.map(({ id, status, reason }) => {
    const why = shortened(reason ?? '', output.columns);
    return `  ${shortened(id, 60)}  ${dim(status.toLowerCase())}  ${why}`;
  });
  return [bold(`${title} (${refused.length})`), ...limited(lines, SHOWN_MAX)];
}

export function reproductionText(reproduction: LineageReproduction, output: Output): string {
  const { versions, due, identical, within, different, comparisons, head } = reproduction;
  const { reproduces, largestPairsDifference } = reproduction;
  const tolerance =
    `pairs ${TOLERANCE.pairs} of their largest number, ` +
    `log-probabilities ${TOLERANCE.logProbability}`;
  const verdict = {
    'bit-for-bit': green('reproduces bit for bit'),
    'within-tolerance': yellow(`reproduces within the tolerance (${tolerance})`),
    no: red('DOES NOT REPRODUCE'),
  }[reproduces];
  const missing = versions < due ? `, ${due - versions} not made` : '';
  const largest =
    `Largest difference of pairs: ${largestPairsDifference.toExponential(1)} of their ` +
    'largest number';
  const corrections = head.sameCorrections
    ? 'the same corrections hold'
    : red('other corrections hold');
  const hook = head.sameHook ? 'the hook is the same to the last bit' : 'its hook differs';
  return [
    `${verdict}: of ${due} versions ${identical} identical, ${within} within the tolerance, ` +
      `${different} different${missing}`,
    ...(largestPairsDifference > 0 ? [largest] : []),
    `HEAD: ${corrections}, ${hook} ${dim(head.hooks[1]?.slice(0, 22) ?? 'none')}`,
    ...limited(
      comparisons.map((one) => versionLine(one, output)),
      SHOWN_MAX,
    ),
  ].join('\n');
}

function versionLine(
  comparison: LineageReproduction['comparisons'][number],
  { columns }: Output,
): string {
  const { version, pairs, pairsDifference, probes, scores, changes, notes } = comparison;
  const amount = pairsDifference === null ? '' : ` (${pairsDifference.toExponential(1)})`;
  const changed = changes === 'different' ? ', changes different' : '';
  const why = notes.length === 0 ? '' : `: ${shortened(notes.join('; '), 2 * columns)}`;
  const parts = `pairs ${pairs}${amount}, probes ${probes}, scores ${scores}${changed}`;
  return `  version ${version}: ${parts}${why}`;
}

export function planText(plan: RebuildPlan): string {
  const { kind, lineage, as, versions, there, records, obstacles } = plan;
  const what = {
    reproduction: `make ${versions - Math.min(there, versions)} of ${versions} versions again`,
    fork: `edit ${versions} versions anew, with another model or other hyper-parameters`,
    'from-records': 'edit the records of its topic anew, since its log has no versions',
  }[kind];
  const gone = records === null || records.gone === '0' ? '' : `; ${records.gone} are gone`;
  const { corrections, searches, undos } = plan;
  return [
    `${bold(`${lineage} → ${as}`)}: would ${what}`,
    ...(kind === 'from-records'
      ? []
      : [`${corrections} corrections in ${searches} searches, ${undos} undos`]),
    ...(there === 0 ? [] : [`${as} has ${there} versions already`]),
    ...(records === null ? [] : [`Kafka has ${records.there} records of the topic${gone}`]),
    ...obstacles.map((obstacle) => `${mark(false)} ${obstacle}`),
    'Nothing was done.',
  ].join('\n');
}
