/**
 * Whether every undo that was ordered ended once, as the log has it, and let go of the alias that
 * it had moved.
 */
import type { OrderedUndo } from './undo-orders.ts';
import type { Chain } from './version-chain.ts';

export function checkUndos(
  undos: readonly OrderedUndo[],
  chain: Chain,
  fault: (sentence: string) => void,
): void {
  const made = new Map<string, number[]>();
  for (const { entry } of chain.entries)
    if (entry.undo !== undefined)
      made.set(entry.undo.id, [...(made.get(entry.undo.id) ?? []), entry.version]);
  for (const undo of undos)
    checkEnd(undo, made.get(undo.id) ?? [], chain, (what) => fault(`Undo: ${undo.id} ${what}.`));
  if (undos.length === 0) return;
  const ordered = new Set(undos.map(({ id }) => id));
  for (const [id, versions] of made)
    if (!ordered.has(id))
      fault(`Undo: version ${versions.join(', ')} is of undo ${id}, which nobody ordered.`);
  const last = new Map(chain.words.map((word) => [word.alias, word]));
  for (const { alias, id, version } of last.values())
    if (version !== null)
      fault(`Aliases: ${alias} stands on version ${version} in the end (${id}).`);
}

function checkEnd(
  { id, target, movedAlias, end }: OrderedUndo,
  made: readonly number[],
  chain: Chain,
  say: (what: string) => void,
): void {
  if (made.length > 1) say(`made versions ${made.join(' and ')}`);
  for (const version of made) {
    const asked = chain.entries[version - 1]!.entry.undo!.target;
    if (
      JSON.stringify(asked, Object.keys(asked).sort()) !==
      JSON.stringify(target, Object.keys(target).sort())
    )
      say(
        `was asked for ${JSON.stringify(target)}, and version ${version} says ${JSON.stringify(asked)}`,
      );
  }
  if (end.kind !== 'ended')
    return say(
      `was ordered and did not end: ${end.kind}${end.kind === 'failed' ? `, ${end.reason}` : ''}`,
    );
  const { result } = end;
  if (result.kind === 'undone') {
    const stored = chain.entries[result.version - 1];
    if (!made.includes(result.version))
      say(`is said to be done in version ${result.version}, which is none of its own`);
    else if (
      stored!.hash !== result.hash ||
      stored!.entry.removed.length !== result.removed ||
      stored!.entry.added.length !== result.restored
    )
      say(
        `says of version ${result.version} what the log does not: ${result.removed} went and ${result.restored} came back`,
      );
    // One that found its version made by an earlier run of it says nothing of what stays.
    else if (result.before !== null) checkNoneLost(result, { target }, chain, say);
  } else if (made.length > 0)
    say(`is said to have undone nothing (${result.kind}), and made version ${made.join(', ')}`);
  else if (result.kind === 'refused' && result.reasons.length === 0)
    say('was refused without a reason');
  if (movedAlias) checkAlias(id, target, result.kind !== 'refused', chain, say);
}

/** What the undone version had taken out holds again, or is among what could not come back. */
function checkNoneLost(
  { version, kept }: { version: number; kept: readonly { correctionId: string }[] },
  { target }: Pick<OrderedUndo, 'target'>,
  { entries, holding }: Chain,
  say: (what: string) => void,
): void {
  if (target.kind !== 'version') return;
  const told = new Set(kept.map(({ correctionId }) => correctionId));
  for (const { correctionId } of entries[target.version - 1]!.entry.removed)
    if (!holding[version]!.has(correctionId) && !told.has(correctionId))
      say(`lost ${correctionId}, which version ${target.version} had taken out`);
}

/**
 * It was moved once, and let go by the next word on it where it was not moved on by another
 * meanwhile. One that was refused may have let it go all the same: before it was reset it had found
 * nothing to do.
 */
function checkAlias(
  id: string,
  target: OrderedUndo['target'],
  done: boolean,
  { words }: Chain,
  say: (what: string) => void,
): void {
  const moved = words.findIndex((word) => word.id === `rollback:${id}`);
  if (moved === -1 || target.kind !== 'rollback' || words[moved]!.version !== target.version)
    return say('did not move the alias to its version');
  const next = words.slice(moved + 1).find(({ alias }) => alias === words[moved]!.alias);
  const released = words.find((word) => word.id === `release:${id}`);
  if (released !== undefined && (released !== next || released.version !== null))
    say('let the alias go, which another had moved meanwhile');
  if (done && (next === undefined || next.id === 'let-go'))
    say('was done and never let the alias go');
}
