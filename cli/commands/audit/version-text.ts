/** Formats a version's undo, aliases and scores for a terminal. */
import type { AliasRecord } from '../../../schemas/alias.ts';
import type { ProbeScores } from '../../../schemas/editing.ts';
import type { UndoTarget } from '../../../schemas/undo.ts';
import { percent, shortened, table } from '../../terminal/text.ts';

/** "revert of version 12 (requested by ada)". */
export function undoText({
  target,
  requestedBy,
}: {
  target: UndoTarget;
  requestedBy: string;
}): string {
  return `${targetText(target)}${requestedBy === '' ? '' : ` (requested by ${requestedBy})`}`;
}

function targetText(target: UndoTarget): string {
  switch (target.kind) {
    case 'version':
      return `revert of version ${target.version}`;
    case 'correction':
      return `revert of ${target.id}`;
    case 'rollback':
      return `rollback to version ${target.version}`;
  }
}

const ALIAS_TEXT_MAX = 80;

export function aliasText({ alias, version, reason, by, at }: AliasRecord): string {
  const where = version === null ? 'follows HEAD' : `is version ${version}`;
  const who = shortened(by, ALIAS_TEXT_MAX);
  const why = shortened(reason, ALIAS_TEXT_MAX);
  return `${alias} ${where}, by ${who} on ${new Date(at).toISOString()}: ${why}`;
}

export function scoresTable(
  { before, after }: { before: ProbeScores; after: ProbeScores },
  names: [string, string] = ['before', 'after'],
): string {
  const row = (name: string, scores: ProbeScores): string[] => [
    name,
    percent(scores.efficacy),
    percent(scores.efficacyGreedy),
    percent(scores.generalisation),
    percent(scores.locality),
    percent(scores.retention),
    `× ${scores.canaryRatio.toFixed(4)}`,
    scores.editNorm.toFixed(3),
  ];
  const shares = ['effective', 'decoded', 'paraphrases', 'neighbours', 'earlier ones'];
  return table(
    ['', ...shares, 'perplexity', 'edit norm'],
    [row(names[0], before), row(names[1], after)],
  );
}
