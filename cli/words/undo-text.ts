/** How undos read on a terminal: what is ordered, what one would do, and what came of it. */
import { previewAsJson } from '../../operations/undo.ts';
import type { ProbeScores } from '../../schemas/editing.ts';
import type { Kept, UndoResult, UndoTarget } from '../../schemas/undo.ts';
import type { History } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { UndoFindings } from '../../versions/undo.ts';
import { EXIT, type ExitCode } from '../terminal/exit-code.ts';
import { percent, shortened, type Output } from '../terminal/output.ts';

const SHOWN_MAX = 20;

/** Names an undo: "revert of version 12 (asked by ada)". */
export function undoInWords({
  target,
  requestedBy,
}: {
  target: UndoTarget;
  requestedBy: string;
}): string {
  const author = requestedBy === '' ? '' : ` (asked by ${requestedBy})`;
  switch (target.kind) {
    case 'version':
      return `revert of version ${target.version}${author}`;
    case 'correction':
      return `revert of ${target.id}${author}`;
    case 'rollback':
      return `rollback to version ${target.version}${author}`;
  }
}

/** Shows what an undo would do. */
export function showUndoPreview(
  output: Output,
  { active }: History,
  findings: UndoFindings,
): ExitCode {
  const { head, removals, restored, kept, nothing } = findings;
  const { green, red } = output.colours;
  output.result(previewAsJson(findings), () => {
    if (nothing !== null) return nothingText(output, { reason: nothing, kept });
    const gone = removals.map(({ correctionId: id }) => {
      const { subject = '', target = '' } = active.get(id) ?? {};
      return `${id}: ${subject} → ${target}`;
    });
    const back = restored.map(({ revision: { correction }, origin }) => {
      const { id, subject, target } = correction;
      return `${id}: ${subject} → ${target} (version ${origin.version})`;
    });
    return [
      `Seen from version ${head.version}; its probes may refuse it.`,
      `  ${red('-')} ${counted(gone.length, 'correction')} would go`,
      ...listed(output, gone),
      `  ${green('+')} ${counted(back.length, 'correction')} would come back`,
      ...listed(output, back),
      ...keptLines(kept),
    ].join('\n');
  });
  return nothing === null ? EXIT.ok : EXIT.failure;
}

/** Shows the result of an undo; `nothing` is the exit code where there was nothing to do. */
export async function showUndoResult(
  output: Output,
  log: VersionLog,
  result: UndoResult & { id: string },
  nothing: ExitCode,
): Promise<ExitCode> {
  const { green, red } = output.colours;
  switch (result.kind) {
    case 'undone': {
      const { before, after } = await scoresOf(log, result);
      const { version, hash, removed, restored } = result;
      output.result({ ...result, before, after }, () =>
        [
          `${green('✓')} Version ${version} (${hash.slice(0, 8)}): ` +
            `${counted(removed, 'correction')} went, ${restored} came back.`,
          ...keptLines(result.kept),
          scoreTable(output, before, after),
        ].join('\n'),
      );
      return EXIT.ok;
    }
    case 'nothing':
      output.result(result, () => nothingText(output, result));
      return nothing;
    case 'refused':
      output.result(result, () =>
        [
          `${red('✗')} Refused by its probes; nothing was written:`,
          ...result.reasons.map((reason) => `    ${reason}`),
          scoreTable(output, result.before, result.after),
          'The thresholds are settings of the lineage (docs/configuration.md, "verdict").',
        ].join('\n'),
      );
      return EXIT.failure;
  }
}

function nothingText({ colours }: Output, { reason, kept }: { reason: string; kept: Kept[] }) {
  return [`${colours.yellow('!')} Nothing to undo: ${reason}.`, ...keptLines(kept)].join('\n');
}

function listed(output: Output, lines: readonly string[]): string[] {
  const more = lines.length - SHOWN_MAX;
  return [
    ...lines.slice(0, SHOWN_MAX).map((line) => `    ${shortened(line, output.columns - 4)}`),
    ...(more > 0 ? [`    and ${more} more (--json lists all)`] : []),
  ];
}

function keptLines(kept: readonly Kept[]): string[] {
  if (kept.length === 0) return [];
  return [
    `  = ${kept.length} would come back and cannot:`,
    ...kept.slice(0, SHOWN_MAX).map(({ correctionId, reason }) => `    ${correctionId}: ${reason}`),
  ];
}

/** The scores of an undo that an earlier run had done are in the log. */
async function scoresOf(
  log: VersionLog,
  { version, before, after }: Extract<UndoResult, { kind: 'undone' }>,
): Promise<{ before: ProbeScores; after: ProbeScores }> {
  return before !== null && after !== null
    ? { before, after }
    : (await log.entry(version)).entry.probes;
}

function scoreTable(output: Output, before: ProbeScores, after: ProbeScores): string {
  const row = (name: string, scores: ProbeScores): string[] => [
    name,
    percent(scores.efficacy),
    percent(scores.generalisation),
    percent(scores.locality),
    percent(scores.retention),
    `× ${scores.canaryRatio.toFixed(4)}`,
    scores.editNorm.toFixed(3),
  ];
  return output.table(
    ['', 'effective', 'paraphrases', 'neighbours', 'earlier ones', 'perplexity', 'edit norm'],
    [row('before', before), row('after', after)],
  );
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
