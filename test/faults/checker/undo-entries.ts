/**
 * Checks that an entry restores corrections unchanged and reaches the state that its undo asks for.
 */
import type { VersionEntry } from '../../../schemas/version-entry.ts';
import { blobName, safetensorsOf } from './entry-contents.ts';
import type { Chain, Report, Store } from './evidence.ts';

/**
 * A restored correction has the texts, the record and the row bytes that a version without an undo
 * gave it. Only an undo reverts and restores.
 */
export function checkOrigins(store: Store, entry: VersionEntry, chain: Chain, fault: Report): void {
  const { undo, added, removed, retractions, batchId } = entry;
  if (undo === undefined) {
    for (const { correctionId, origin } of added)
      if (origin !== undefined) fault(`it brings ${correctionId} back, and is not an undo`);
    for (const { correctionId, because } of removed)
      if (because === 'reverted') fault(`it reverts ${correctionId}, and is not an undo`);
    return;
  }
  if (batchId !== `undo-${undo.id}`) fault(`it is undo ${undo.id}, of batch ${batchId}`);
  if (retractions.length > 0) fault('it is an undo that carries out retractions');
  for (const { correctionId, because, by } of removed)
    if (because !== 'reverted' || by !== `undo:${undo.id}`)
      fault(`it is undo ${undo.id}, and ${correctionId} was ${because} by ${by}`);
  for (const { row, origin, ...correction } of added) {
    const id = correction.correctionId;
    const first = chain.entries[(origin?.version ?? 0) - 1]?.entry;
    const found = first?.added.find((one) => one.correctionId === id);
    const { row: firstRow, origin: earlier, ...original } = found ?? {};
    if (first === undefined || earlier !== undefined || firstRow !== origin!.row)
      fault(
        `it brings ${id} back, which version ${origin?.version ?? 'none'} ` +
          `did not add in row ${origin?.row ?? 'none'}`,
      );
    else if (JSON.stringify(original) !== JSON.stringify(correction))
      fault(`it brings ${id} back with other texts than it had`);
    else if (bytesOfRow(store, entry, row) !== bytesOfRow(store, first, firstRow))
      fault(`it brings ${id} back with other pairs than it had`);
  }
}

/** The state that an undo asks for is reached after it. */
export function checkUndone(
  { undo, version }: VersionEntry,
  { entries, active }: Chain,
  fault: Report,
): void {
  if (undo === undefined) return;
  const { target } = undo;
  const now = active[version]!;
  switch (target.kind) {
    case 'rollback': {
      const then = active[target.version];
      const back = `it goes back to version ${target.version}`;
      if (then === undefined) return fault(`${back}, which did not exist`);
      for (const id of then) if (!now.has(id)) fault(`${back}, where ${id} was active, and is not`);
      for (const id of now) if (!then.has(id)) fault(`${back}, where ${id} was not active, and is`);
      return;
    }
    case 'version':
      for (const { correctionId: id } of entries[target.version - 1]?.entry.added ?? [])
        if (now.has(id))
          fault(`it undoes version ${target.version}, which added ${id}, which is still active`);
      return;
    case 'correction':
      if (now.has(target.id)) fault(`it undoes ${target.id}, which is still active`);
  }
}

/**
 * All bytes of a row of an entry's pairs; null if they are unreadable, which is reported elsewhere.
 */
function bytesOfRow(store: Store, { lineage, pairs }: VersionEntry, row: number): string | null {
  const bytes = pairs === null ? undefined : store.get(blobName(lineage, pairs.sha256));
  if (bytes === undefined) return null;
  try {
    const { header, data } = safetensorsOf(bytes);
    return Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, { shape, data_offsets: offsets }]) => {
        const [from, to] = offsets!;
        const length = (to - from) / shape![0]!;
        const at = data + from + row * length;
        return `${name} ${bytes.subarray(at, at + length).toString('hex')}`;
      })
      .join('\n');
  } catch {
    return null;
  }
}
