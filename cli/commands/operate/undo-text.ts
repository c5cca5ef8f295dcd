/** Formats undos for a terminal: the order, the preview and the result. */
import { previewAsJson } from '../../../operations/undo.ts';
import type { ProbeScores } from '../../../schemas/editing.ts';
import type { Kept, UndoResult } from '../../../schemas/undo.ts';
import type { History } from '../../../versions/log/history.ts';
import type { VersionLog } from '../../../versions/log/version-log.ts';
import type { UndoFindings } from '../../../versions/undo.ts';
import { EXIT, type ExitCode } from '../../terminal/exit-code.ts';
import type { Output } from '../../terminal/output.ts';
import { green, red, yellow } from '../../terminal/colours.ts';
import { counted, limited, shortened } from '../../terminal/text.ts';
import { scoresTable } from '../audit/version-text.ts';

const SHOWN_MAX = 20;

export function showUndoPreview(
  output: Output,
  { active }: History,
  findings: UndoFindings,
): ExitCode {
  const { head, removals, restored, kept, nothing } = findings;
  output.result(previewAsJson(findings), () => {
    if (nothing !== null) return nothingText({ reason: nothing, kept });
    const gone = removals.map(({ correctionId: id }) => {
      const { subject = '', target = '' } = active.get(id) ?? {};
      return `${id}: ${subject} → ${target}`;
    });
    const back = restored.map(({ revision: { correction }, origin }) => {
      const { id, subject, target } = correction;
      return `${id}: ${subject} → ${target} (version ${origin.version})`;
    });
    const listed = (lines: string[]) =>
      limited(
        lines.map((line) => `    ${shortened(line, output.columns - 4)}`),
        SHOWN_MAX,
      );
    return [
      `Seen from version ${head.version}; its probes may refuse it.`,
      `  ${red('-')} ${counted(gone.length, 'correction')} would go`,
      ...listed(gone),
      `  ${green('+')} ${counted(back.length, 'correction')} would come back`,
      ...listed(back),
      ...keptLines(kept),
    ].join('\n');
  });
  return nothing === null ? EXIT.ok : EXIT.failure;
}

/** Shows the result of an undo; `nothing` is the exit code if there was nothing to do. */
export async function showUndoResult(
  output: Output,
  log: VersionLog,
  result: UndoResult & { id: string },
  nothing: ExitCode,
): Promise<ExitCode> {
  switch (result.kind) {
    case 'undone': {
      const { before, after } = await scoresOf(log, result);
      const { version, hash, removed, restored } = result;
      output.result({ ...result, before, after }, () =>
        [
          `${green('✓')} Version ${version} (${hash.slice(0, 8)}): ` +
            `${counted(removed, 'correction')} went, ${restored} came back.`,
          ...keptLines(result.kept),
          scoresTable({ before, after }),
        ].join('\n'),
      );
      return EXIT.ok;
    }
    case 'nothing':
      output.result(result, () => nothingText(result));
      return nothing;
    case 'refused':
      output.result(result, () =>
        [
          `${red('✗')} Refused by its probes; nothing was written:`,
          ...result.reasons.map((reason) => `    ${reason}`),
          scoresTable(result),
          'The thresholds are settings of the lineage (docs/configuration.md, "verdict").',
        ].join('\n'),
      );
      return EXIT.failure;
  }
}

function nothingText({ reason, kept }: { reason: string; kept: Kept[] }) {
  return [`${yellow('!')} Nothing to undo: ${reason}.`, ...keptLines(kept)].join('\n');
}

function keptLines(kept: readonly Kept[]): string[] {
  if (kept.length === 0) return [];
  return [
    `  = ${kept.length} would come back and cannot:`,
    ...kept.slice(0, SHOWN_MAX).map(({ correctionId, reason }) => `    ${correctionId}: ${reason}`),
  ];
}

/** If an earlier run did the undo, its scores are in the log. */
async function scoresOf(
  log: VersionLog,
  { version, before, after }: Extract<UndoResult, { kind: 'undone' }>,
): Promise<{ before: ProbeScores; after: ProbeScores }> {
  return before !== null && after !== null
    ? { before, after }
    : (await log.entry(version)).entry.probes;
}
