/**
 * Checks that every ordered undo ended once, as in the log, and released the alias that it moved.
 */
import type { OrderedUndo } from '../undo-orders.ts';
import type { Chain, Report } from './evidence.ts';

export function checkOrderedUndos(
  undos: readonly OrderedUndo[],
  chain: Chain,
  report: Report,
): void {
  if (undos.length === 0) return;
  const made = new Map<string, number[]>();
  for (const { entry } of chain.entries)
    if (entry.undo !== undefined)
      made.set(entry.undo.id, [...(made.get(entry.undo.id) ?? []), entry.version]);
  for (const undo of undos) {
    const fault: Report = (sentence) => report(`Undo: ${undo.id} ${sentence}.`);
    checkVersions(undo, made.get(undo.id) ?? [], chain, fault);
    checkEnd(undo, made.get(undo.id) ?? [], chain, fault);
  }
  const ordered = new Set(undos.map(({ id }) => id));
  for (const [id, versions] of made)
    if (!ordered.has(id))
      report(`Undo: version ${versions.join(', ')} is of undo ${id}, which nobody ordered.`);
  const last = new Map(chain.aliases.map((record) => [record.alias, record]));
  for (const { alias, id, version } of last.values())
    if (version !== null) report(`Aliases: ${alias} is on version ${version} in the end (${id}).`);
}

function checkVersions(
  { target }: OrderedUndo,
  made: readonly number[],
  chain: Chain,
  fault: Report,
): void {
  if (made.length > 1) fault(`made versions ${made.join(' and ')}`);
  const sorted = (value: object): string => JSON.stringify(value, Object.keys(value).sort());
  for (const version of made) {
    const written = chain.entries[version - 1]!.entry.undo!.target;
    if (sorted(written) !== sorted(target))
      fault(`was ordered for ${sorted(target)}, and version ${version} has ${sorted(written)}`);
  }
}

function checkEnd(undo: OrderedUndo, made: readonly number[], chain: Chain, fault: Report): void {
  const { end } = undo;
  if (end.kind !== 'ended')
    return fault(
      `was ordered and did not end: ${end.kind}${end.kind === 'failed' ? `, ${end.reason}` : ''}`,
    );
  const { result } = end;
  if (result.kind === 'undone') {
    const stored = chain.entries[result.version - 1];
    if (!made.includes(result.version))
      fault(`reports version ${result.version}, which is not its own`);
    else if (
      stored!.hash !== result.hash ||
      stored!.entry.removed.length !== result.removed ||
      stored!.entry.added.length !== result.restored
    )
      fault(
        `reports ${result.removed} removed and ${result.restored} restored in version ` +
          `${result.version}, and the log differs`,
      );
    // If an earlier run made the version, the result does not list what could not be restored.
    else if (result.before !== null) checkRestored(undo, result, chain, fault);
  } else if (made.length > 0)
    fault(`reports that it did nothing (${result.kind}), and made version ${made.join(', ')}`);
  else if (result.kind === 'refused' && result.reasons.length === 0)
    fault('was refused without a reason');
  if (undo.movedAlias) checkAlias(undo, result.kind !== 'refused', chain, fault);
}

/** Everything that the undone version had removed is active again, or listed as not restorable. */
function checkRestored(
  { target }: OrderedUndo,
  { version, kept }: { version: number; kept: readonly { correctionId: string }[] },
  { entries, active }: Chain,
  fault: Report,
): void {
  if (target.kind !== 'version') return;
  const listed = new Set(kept.map(({ correctionId }) => correctionId));
  for (const { correctionId } of entries[target.version - 1]!.entry.removed)
    if (!active[version]!.has(correctionId) && !listed.has(correctionId))
      fault(`lost ${correctionId}, which version ${target.version} had removed`);
}

/**
 * The alias was moved once, and released by its next record unless another undo moved it meanwhile.
 * A refused undo may have released it too if a reset came first and left it nothing to do.
 */
function checkAlias(
  { id, target }: OrderedUndo,
  done: boolean,
  { aliases }: Chain,
  fault: Report,
): void {
  const at = aliases.findIndex((record) => record.id === `rollback:${id}`);
  const moved = aliases[at];
  if (moved === undefined || target.kind !== 'rollback' || moved.version !== target.version)
    return fault('did not move the alias to its version');
  const next = aliases.slice(at + 1).find(({ alias }) => alias === moved.alias);
  const released = aliases.find((record) => record.id === `release:${id}`);
  if (released !== undefined && (released !== next || released.version !== null))
    fault('released the alias, which another had moved meanwhile');
  if (done && (next === undefined || next.id === 'let-go'))
    fault('was done and never released the alias');
}
