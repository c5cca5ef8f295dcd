/**
 * What `errata rebuild` prints: what would be done, what was done, and how it compares with what it
 * was made after.
 */
import type { RebuildPlan } from '../../operations/rebuild/rebuild-plan.ts';
import type { Rebuilt } from '../../operations/rebuild/rebuild-run.ts';
import { TOLERANCE, type LineageReproduction } from '../../operations/rebuild/reproduction.ts';
import { shortened, type Output } from '../terminal/output.ts';

/**
 * Whether what was asked for came out: of a reproduction that it reproduces, of records that they
 * say what the log says.
 */
export function isReproduced({ stopped, reproduction, words }: Rebuilt): boolean {
  return (
    stopped === null && reproduction?.reproduces !== 'no' && (words?.differences.length ?? 0) === 0
  );
}

export function rebuiltText(rebuilt: Rebuilt, output: Output): string {
  const { bold, dim, red, yellow } = output.colours;
  const {
    kind,
    lineage,
    as,
    due,
    done,
    began,
    head,
    stopped,
    words,
    records,
    reproduction,
    refused,
    interrupted,
    seconds,
  } = rebuilt;
  const what = {
    reproduction: 'versions made again',
    fork: 'versions edited anew',
    'from-records': 'batches edited from records',
  }[kind];
  const lines = [
    `${bold(`${lineage} → ${as}`)}: ${done} of ${due} ${what}, HEAD is version ${head}, ${seconds.toFixed(1)} s${began > 0 ? dim(` (went on from version ${began})`) : ''}`,
  ];
  if (interrupted) lines.push(`${yellow('!')} Stopped; the same command goes on from here.`);
  if (records !== null)
    lines.push(
      `${records.read} records read, ${records.dead} of them cannot be taken${records.gone === '0' ? '' : `; ${records.gone} before them are no longer in Kafka`}`,
    );
  if (words !== null) {
    lines.push(
      `Words: ${words.same} of ${words.records} records in Kafka say what the log says${words.gone === 0 ? '' : `, ${words.gone} are no longer in Kafka (${words.goneExamples.slice(0, 3).join(', ')}${words.gone > 3 ? ', …' : ''}); their words are the log's`}`,
    );
    for (const { id, record, what: difference } of words.differences.slice(0, SHOWN_MAX))
      lines.push(
        `  ${red('✗')} ${shortened(id, 60)} (${record}): ${shortened(difference, output.columns)}`,
      );
    if (words.differences.length > SHOWN_MAX)
      lines.push(dim(`  and ${words.differences.length - SHOWN_MAX} more; --json names them`));
  }
  if (stopped !== null)
    lines.push(
      `${red('✗')} Version ${stopped.version} could not be made again:`,
      ...stopped.reasons
        .slice(0, SHOWN_MAX)
        .map((reason) => `    ${shortened(reason, 2 * output.columns)}`),
    );
  if (reproduction !== null && !interrupted) lines.push(reproductionText(reproduction, output));
  if (kind !== 'reproduction') {
    lines.push(
      refused.length === 0
        ? 'No correction was refused here.'
        : bold(
            `${kind === 'fork' ? `Hold in ${lineage} and not here` : 'Refused'} (${refused.length})`,
          ),
    );
    for (const { id, status, reason } of refused.slice(0, SHOWN_MAX))
      lines.push(
        `  ${shortened(id, 60)}  ${dim(status.toLowerCase())}  ${shortened(reason ?? '', output.columns)}`,
      );
    if (refused.length > SHOWN_MAX)
      lines.push(dim(`  and ${refused.length - SHOWN_MAX} more; --json names them`));
  }
  return lines.join('\n');
}

export function reproductionText(reproduction: LineageReproduction, output: Output): string {
  const { green, red, yellow, dim } = output.colours;
  const {
    versions,
    due,
    identical,
    within,
    different,
    largestPairsDifference,
    comparisons,
    head,
    reproduces,
  } = reproduction;
  const verdict = {
    'bit-for-bit': green('reproduces bit for bit'),
    'within-tolerance': yellow(
      `reproduces within the tolerance (pairs ${TOLERANCE.pairs} of their largest number, log-probabilities ${TOLERANCE.logProbability})`,
    ),
    no: red('DOES NOT REPRODUCE'),
  }[reproduces];
  const lines = [
    `${verdict}: of ${due} versions ${identical} identical, ${within} within the tolerance, ${different} different${versions < due ? `, ${due - versions} not made` : ''}`,
  ];
  if (largestPairsDifference > 0)
    lines.push(
      `Largest difference of pairs: ${largestPairsDifference.toExponential(1)} of their largest number`,
    );
  lines.push(
    `HEAD: ${head.sameCorrections ? 'the same corrections hold' : red('other corrections hold')}, ${head.sameHook ? 'the hook is the same to the last bit' : 'its hook is another'} ${dim(head.hooks[1]?.slice(0, 22) ?? 'none')}`,
  );
  for (const one of comparisons.slice(0, SHOWN_MAX)) {
    const parts = [
      `pairs ${one.pairs}${one.pairsDifference === null ? '' : ` (${one.pairsDifference.toExponential(1)})`}`,
      `probes ${one.probes}`,
      `scores ${one.scores}`,
      ...(one.changes === 'different' ? ['changes different'] : []),
    ];
    lines.push(
      `  version ${one.version}: ${parts.join(', ')}${one.notes.length === 0 ? '' : `: ${shortened(one.notes.join('; '), 2 * output.columns)}`}`,
    );
  }
  if (comparisons.length > SHOWN_MAX)
    lines.push(dim(`  and ${comparisons.length - SHOWN_MAX} more; --json names them`));
  return lines.join('\n');
}

export function planText(plan: RebuildPlan, { colours }: Output): string {
  const { bold, red } = colours;
  const what = {
    reproduction: `make ${plan.versions - Math.min(plan.there, plan.versions)} of ${plan.versions} versions again`,
    fork: `edit what ${plan.versions} versions were asked for anew, with another model or other hyper-parameters`,
    'from-records': 'edit the records of its topic anew, since its log has no versions',
  }[plan.kind];
  return [
    `${bold(`${plan.lineage} → ${plan.as}`)}: would ${what}`,
    ...(plan.kind === 'from-records'
      ? []
      : [`${plan.corrections} corrections in ${plan.searches} searches, ${plan.undos} undos`]),
    ...(plan.there === 0 ? [] : [`${plan.as} has ${plan.there} versions already`]),
    ...(plan.records === null
      ? []
      : [
          `Kafka has ${plan.records.there} records of the topic${plan.records.gone === '0' ? '' : `, and ${plan.records.gone} no longer`}`,
        ]),
    ...plan.obstacles.map((obstacle) => `${red('✗')} ${obstacle}`),
    'Nothing was done.',
  ].join('\n');
}

const SHOWN_MAX = 20;
