/** Checks that the blobs of an entry are whole and its probes passed. */
import type { CorrectionProbe } from '../../../schemas/editing.ts';
import type { VerdictSettings } from '../../../schemas/settings.ts';
import type { VersionEntry } from '../../../schemas/version-entry.ts';
import { sha256, type Report, type Store } from './evidence.ts';

export const blobName = (lineage: string, hash: string): string =>
  `lineages/${lineage}/blobs/${hash.slice(0, 2)}/${hash}`;

type Header = Record<string, { shape?: number[]; data_offsets?: [number, number] }>;

/** The header of a safetensors file and the offset of its data; throws if the header is missing. */
export function safetensorsOf(bytes: Buffer): { header: Header; data: number } {
  const data = 8 + Number(bytes.readBigUInt64LE(0));
  return { header: JSON.parse(bytes.subarray(8, data).toString('utf8')) as Header, data };
}

function blobOf(
  store: Store,
  lineage: string,
  { sha256: hash, bytes: length }: { sha256: string; bytes: number },
  fault: Report,
): Buffer | null {
  const bytes = store.get(blobName(lineage, hash));
  if (bytes === undefined) fault(`its blob ${hash} is not in the store`);
  else if (bytes.length !== length)
    fault(`its blob ${hash} has ${bytes.length} bytes instead of ${length}`);
  else if (sha256(bytes) !== hash) fault(`its blob ${hash} hashes to ${sha256(bytes)}`);
  else return bytes;
  return null;
}

export function checkPairs(store: Store, entry: VersionEntry, fault: Report): void {
  const rows = entry.added.map(({ row }) => row).sort((a, b) => a - b);
  if (rows.some((row, i) => row !== i)) fault(`its rows are ${rows.join(', ')}`);
  if (entry.pairs === null) {
    if (entry.added.length > 0) fault('it adds corrections and has no pairs');
    return;
  }
  const bytes = blobOf(store, entry.lineage, entry.pairs, fault);
  if (bytes === null) return;
  try {
    const { header, data } = safetensorsOf(bytes);
    const matrices = Object.entries(header).filter(([name]) =>
      /^layers\.\d+\.(keys|changes)$/.test(name),
    );
    if (matrices.length === 0) fault('its pairs have no layers');
    const count = entry.added.length;
    for (const [name, { shape }] of matrices)
      if (shape?.[0] !== count)
        fault(`its pairs have ${shape?.[0] ?? 'no'} rows of ${name} for ${count} corrections`);
    const end = Math.max(...matrices.map(([, { data_offsets }]) => data_offsets?.[1] ?? 0));
    if (data + end !== bytes.length) fault('its pairs do not end where their header says');
    for (let at = data; at < bytes.length; at += 4)
      if (!Number.isFinite(bytes.readFloatLE(at))) return fault('its pairs are not all finite');
  } catch {
    fault('its pairs cannot be read');
  }
}

/** A batch answers only for what it made worse, and one of several probes may always fail. */
export function checkProbes(
  store: Store,
  entry: VersionEntry,
  settings: VerdictSettings & { activeBefore: number },
  fault: Report,
): void {
  const { before, after } = entry.probes;
  const bytes = blobOf(store, entry.lineage, entry.probes.details, fault);
  if (bytes === null) return;
  let details: CorrectionProbe[];
  try {
    details = JSON.parse(bytes.toString('utf8')) as CorrectionProbe[];
  } catch {
    return fault('the details of its probes are not JSON');
  }
  const probed = details.map(({ id }) => id).sort();
  const added = entry.added.map(({ correctionId }) => correctionId).sort();
  if (probed.join('\n') !== added.join('\n'))
    fault(
      `its probes are about ${probed.join(', ') || 'nothing'}, ` +
        `and it adds ${added.join(', ') || 'nothing'}`,
    );
  const failed = (what: string): void => fault(`its probes failed: ${what}`);
  const ineffective = details.filter(({ effective }) => !effective).map(({ id }) => id);
  if (settings.requireEffective && ineffective.length > 0)
    failed(`${ineffective.join(', ')} not effective`);
  const paraphrases = details.flatMap((detail) => detail.paraphrases.map(({ holds }) => holds));
  const neighbours = details.flatMap(({ neighbours: all }) => all);
  const counts = {
    generalisation: paraphrases.length,
    locality: neighbours.length,
    retention: Math.min(settings.activeBefore, settings.retentionSample),
  };
  for (const measure of ['generalisation', 'locality', 'retention'] as const) {
    const [value, min] = [after[measure], settings[`${measure}Min`]];
    const earlier = measure === 'generalisation' ? null : before[measure];
    if (value === null || value >= min || (earlier !== null && value >= earlier)) continue;
    const mayFail = counts[measure] > 1 && (1 - value) * counts[measure] <= 1 + 1e-9;
    if (!mayFail) failed(`${measure} ${value}, below ${min}`);
  }
  const counted =
    paraphrases.length === 0 ? null : paraphrases.filter(Boolean).length / paraphrases.length;
  if (after.generalisation !== counted)
    fault(`its generalisation is ${after.generalisation}, and its details give ${counted}`);
  for (const measure of ['canaryRatio', 'editNorm'] as const) {
    const max = settings[`${measure}Max`];
    if (after[measure] > max && after[measure] > before[measure])
      failed(
        `${measure === 'editNorm' ? 'edit norm' : 'canary ratio'} ${after[measure]} of ${max}`,
      );
  }
}
