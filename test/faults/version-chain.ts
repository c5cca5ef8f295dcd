/**
 * The checker's own reading of a version log: names, numbers, hashes, blobs and probes, with
 * nothing of versions/ or activities/, so that a mistake there is not made here too.
 */
import { createHash } from 'node:crypto';
import type { CorrectionProbe } from '../../schemas/editing.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';

/** A correction that some version added. */
export interface Held {
  id: string;
  factKey: string;
  issuedAt: number;
  target: string;
  /** `<partition>-<offset>` of its record. */
  record: string;
  /** The version that it holds since, or held last. */
  added: number;
  removed: { version: number; because: string; by: string } | null;
  /** What was said of it, in order, up to what is said of it now: `COMMITTED 3`. */
  told: string[];
}

export interface Chain {
  entries: { entry: VersionEntry; hash: string }[];
  corrections: Map<string, Held>;
  /** Facts that an undo changed: of these the newest need not hold. */
  undone: Set<string>;
  retractions: Map<string, { version: number; record: string }>;
  /** The ids that held after each version, from 0 on. */
  holding: ReadonlySet<string>[];
  /** What was said of aliases, in order. */
  words: AliasRecord[];
}

/** A word on an alias, as far as it is looked at. */
export interface AliasRecord {
  alias: string;
  id: string;
  version: number | null;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const versionName = (lineage: string, version: number): string =>
  `lineages/${lineage}/log/${String(version).padStart(20, '0')}.json`;

/** Reads the chain of a lineage and reports what is wrong with it, each fault as a sentence. */
export function readChain(
  store: ReadonlyMap<string, Buffer>,
  lineage: string,
  settings: VerdictSettings,
  fault: (sentence: string) => void,
): Chain {
  checkNames(store, lineage, fault);
  const chain: Chain = {
    entries: [],
    corrections: new Map(),
    undone: new Set(),
    retractions: new Map(),
    holding: [new Set()],
    words: [],
  };
  const active = new Map<string, Held>();
  const batches = new Map<string, number>();
  const count = [...store.keys()].filter((name) =>
    name.startsWith(`lineages/${lineage}/log/`),
  ).length;
  for (let version = 1; chain.entries.length < count; version++) {
    const bytes = store.get(versionName(lineage, version));
    if (bytes === undefined) {
      fault(
        `version ${version} is missing, and ${count - chain.entries.length} versions lie behind the gap`,
      );
      break;
    }
    let entry: VersionEntry;
    try {
      entry = JSON.parse(bytes.toString('utf8')) as VersionEntry;
    } catch {
      fault(`the entry of version ${version} is no JSON`);
      break;
    }
    const say = (what: string): void => fault(`version ${version}: ${what}`);
    const parent = chain.entries.at(-1)?.hash ?? null;
    if (entry.parent !== parent)
      say(
        `its parent is ${entry.parent ?? 'none'}, and the entry before it hashes to ${parent ?? 'nothing'}`,
      );
    if (entry.version !== version || entry.lineage !== lineage)
      say(`it says that it is version ${entry.version} of ${entry.lineage}`);
    const before = batches.get(entry.batchId);
    if (before !== undefined) say(`batch ${entry.batchId} made version ${before} already`);
    batches.set(entry.batchId, version);
    // Probes first: what held before it is what they were measured against.
    checkProbes(store, entry, settings, active.size, say);
    checkPairs(store, entry, say);
    checkUndo(store, entry, chain, say);
    fold(entry, chain, active, say);
    chain.holding.push(new Set(active.keys()));
    checkUndone(entry, chain, say);
    if (entry.corrections !== active.size)
      say(`it counts ${entry.corrections} corrections, and ${active.size} hold`);
    chain.entries.push({ entry, hash: sha256(bytes) });
  }
  checkAliases(store, lineage, chain, fault);
  return chain;
}

/**
 * What comes back is what was there: its texts, its record and the bytes of its row, which are
 * those that a version without an undo gave it.
 */
function checkUndo(
  store: ReadonlyMap<string, Buffer>,
  entry: VersionEntry,
  chain: Chain,
  say: (what: string) => void,
): void {
  const { undo, added, removed, retractions, batchId } = entry;
  if (undo === undefined) {
    for (const { correctionId, origin } of added)
      if (origin !== undefined) say(`it brings ${correctionId} back, and is no undo`);
    for (const { correctionId, because } of removed)
      if (because === 'reverted') say(`it reverts ${correctionId}, and is no undo`);
    return;
  }
  if (batchId !== `undo-${undo.id}`) say(`it is undo ${undo.id}, and of batch ${batchId}`);
  if (retractions.length > 0) say('it is an undo that carries out retractions');
  for (const { correctionId, because, by } of removed)
    if (because !== 'reverted' || by !== `undo:${undo.id}`)
      say(`it is undo ${undo.id}, and ${correctionId} was ${because} by ${by}`);
  for (const { row, origin, ...correction } of added) {
    const first = chain.entries[(origin?.version ?? 0) - 1]?.entry;
    const {
      row: firstRow,
      origin: earlier,
      ...original
    } = first?.added.find(({ correctionId }) => correctionId === correction.correctionId) ?? {};
    if (
      origin === undefined ||
      first === undefined ||
      earlier !== undefined ||
      firstRow !== origin.row
    )
      say(
        `it brings ${correction.correctionId} back, which version ${origin?.version ?? 'none'} did not add in row ${origin?.row ?? 'none'}`,
      );
    else if (JSON.stringify(original) !== JSON.stringify(correction))
      say(`it brings ${correction.correctionId} back with other words than it had`);
    else if (bytesOfRow(store, entry, row) !== bytesOfRow(store, first, firstRow))
      say(`it brings ${correction.correctionId} back with other pairs than it had`);
  }
}

/** What an undo was asked for is so after it. */
function checkUndone(
  { undo, version }: VersionEntry,
  { entries, holding }: Chain,
  say: (what: string) => void,
): void {
  if (undo === undefined) return;
  const { target } = undo;
  const now = holding[version]!;
  switch (target.kind) {
    case 'rollback': {
      const then = holding[target.version];
      if (then === undefined) say(`it goes back to version ${target.version}, which was not there`);
      else
        for (const id of new Set([...then, ...now]))
          if (then.has(id) !== now.has(id))
            say(
              `it goes back to version ${target.version}, in which ${id} ${then.has(id) ? 'held, and it does not' : 'did not hold, and it does'}`,
            );
      break;
    }
    case 'version':
      for (const { correctionId } of entries[target.version - 1]?.entry.added ?? [])
        if (now.has(correctionId))
          say(
            `it undoes version ${target.version}, and ${correctionId}, which that version added, still holds`,
          );
      break;
    case 'correction':
      if (now.has(target.id)) say(`it undoes ${target.id}, which still holds`);
  }
}

/**
 * All bytes of one row of an entry's pairs, layer by layer; null where they cannot be read, which
 * is told elsewhere.
 */
function bytesOfRow(
  store: ReadonlyMap<string, Buffer>,
  { lineage, pairs }: VersionEntry,
  row: number,
): string | null {
  const bytes =
    pairs === null
      ? undefined
      : store.get(`lineages/${lineage}/blobs/${pairs.sha256.slice(0, 2)}/${pairs.sha256}`);
  if (bytes === undefined) return null;
  try {
    const length = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.subarray(8, 8 + length).toString('utf8')) as Record<
      string,
      { shape: number[]; data_offsets: [number, number] }
    >;
    const matrices = Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .sort(([a], [b]) => (a < b ? -1 : 1));
    return matrices
      .map(
        ([
          name,
          {
            shape,
            data_offsets: [from, to],
          },
        ]) =>
          `${name} ${bytes.subarray(8 + length + from + (row * (to - from)) / shape[0]!, 8 + length + from + ((row + 1) * (to - from)) / shape[0]!).toString('hex')}`,
      )
      .join('\n');
  } catch {
    return null;
  }
}

/**
 * Words on aliases follow one another from 1, each sealed with its hash, each about a version that
 * there is.
 */
function checkAliases(
  store: ReadonlyMap<string, Buffer>,
  lineage: string,
  { entries, words }: Chain,
  fault: (sentence: string) => void,
): void {
  const folder = `lineages/${lineage}/aliases/`;
  const names = [...store.keys()].filter((name) => name.startsWith(folder)).sort();
  const ids = new Set<string>();
  for (const [i, name] of names.entries()) {
    if (name !== `${folder}${String(i + 1).padStart(20, '0')}.json`)
      return fault(`${name} stands where word ${i + 1} on the aliases is due`);
    const text = store.get(name)!.toString('utf8');
    const [, content, seal] =
      /^\{"content":(\{.*\}),"sha256":"([0-9a-f]{64})"\}$/s.exec(text) ?? [];
    if (content === undefined || sha256(Buffer.from(content)) !== seal)
      return fault(`${name} is not what it was sealed as`);
    const word = JSON.parse(content) as AliasRecord;
    const { id, version } = word;
    words.push(word);
    if (version !== null && version > entries.length)
      fault(`${name} names version ${version} of ${entries.length}`);
    if (ids.has(id)) fault(`${name} says ${id} once more`);
    ids.add(id);
  }
}

function checkNames(
  store: ReadonlyMap<string, Buffer>,
  lineage: string,
  fault: (sentence: string) => void,
): void {
  const prefix = `lineages/${lineage}/`;
  for (const [name, bytes] of store) {
    if (name.startsWith('.tmp/')) continue;
    const rest = name.startsWith(prefix) ? name.slice(prefix.length) : null;
    const hash = /^(?:blobs\/[0-9a-f]{2}|staging\/[^/]+)\/([0-9a-f]{64})$/.exec(rest ?? '')?.[1];
    if (hash !== undefined) {
      // Named or not: whatever can be seen is whole.
      if (sha256(bytes) !== hash) fault(`${name} holds bytes that hash to ${sha256(bytes)}`);
    } else if (
      rest === null ||
      !(/^log\/\d{20}\.json$/.test(rest) || /^(register|aliases|histories)\//.test(rest))
    )
      fault(`the store holds ${name}, which is no object of the lineage`);
  }
}

function blobOf(
  store: ReadonlyMap<string, Buffer>,
  lineage: string,
  reference: { sha256: string; bytes: number },
  say: (what: string) => void,
): Buffer | null {
  const bytes = store.get(
    `lineages/${lineage}/blobs/${reference.sha256.slice(0, 2)}/${reference.sha256}`,
  );
  if (bytes === undefined) say(`its blob ${reference.sha256} is not in the store`);
  else if (bytes.length !== reference.bytes)
    say(`its blob ${reference.sha256} has ${bytes.length} bytes where ${reference.bytes} are due`);
  else if (sha256(bytes) !== reference.sha256)
    say(`its blob ${reference.sha256} hashes to ${sha256(bytes)}`);
  else return bytes;
  return null;
}

function checkPairs(
  store: ReadonlyMap<string, Buffer>,
  entry: VersionEntry,
  say: (what: string) => void,
): void {
  const rows = entry.added.map(({ row }) => row).sort((a, b) => a - b);
  if (rows.some((row, i) => row !== i)) say(`its rows are ${rows.join(', ')}`);
  if (entry.pairs === null) {
    if (entry.added.length > 0) say('it adds corrections and has no pairs');
    return;
  }
  const bytes = blobOf(store, entry.lineage, entry.pairs, say);
  if (bytes === null) return;
  try {
    const length = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.subarray(8, 8 + length).toString('utf8')) as Record<
      string,
      { shape?: number[]; data_offsets?: [number, number] }
    >;
    const matrices = Object.entries(header).filter(([name]) =>
      /^layers\.\d+\.(keys|changes)$/.test(name),
    );
    if (matrices.length === 0) say('its pairs have no layers');
    for (const [name, { shape }] of matrices)
      if (shape?.[0] !== entry.added.length)
        say(
          `its pairs have ${shape?.[0] ?? 'no'} rows of ${name} for ${entry.added.length} corrections`,
        );
    const end = Math.max(...matrices.map(([, { data_offsets }]) => data_offsets?.[1] ?? 0));
    if (8 + length + end !== bytes.length) say('its pairs end elsewhere than their header says');
    for (let at = 8 + length; at < bytes.length; at += 4)
      if (!Number.isFinite(bytes.readFloatLE(at))) return say('its pairs hold what is no number');
  } catch {
    say('its pairs cannot be read');
  }
}

/**
 * Of two probes or more, one may fail whatever the threshold; and a batch answers only for what it
 * made worse.
 */
function checkProbes(
  store: ReadonlyMap<string, Buffer>,
  entry: VersionEntry,
  settings: VerdictSettings,
  heldBefore: number,
  say: (what: string) => void,
): void {
  const { before, after } = entry.probes;
  const bytes = blobOf(store, entry.lineage, entry.probes.details, say);
  if (bytes === null) return;
  let details: CorrectionProbe[];
  try {
    details = JSON.parse(bytes.toString('utf8')) as CorrectionProbe[];
  } catch {
    return say('the details of its probes are no JSON');
  }
  const asked = details.map(({ id }) => id).sort();
  const added = entry.added.map(({ correctionId }) => correctionId).sort();
  if (asked.join('\n') !== added.join('\n'))
    say(
      `its probes asked for ${asked.join(', ') || 'nothing'}, and it adds ${added.join(', ') || 'nothing'}`,
    );
  const ineffective = details.filter(({ effective }) => !effective).map(({ id }) => id);
  if (settings.requireEffective && ineffective.length > 0)
    say(`its probes failed: ${ineffective.join(', ')} not effective`);
  const paraphrases = details.flatMap((detail) => detail.paraphrases.map(({ holds }) => holds));
  const neighbours = details.flatMap((detail) =>
    detail.neighbours.map(({ unchanged }) => unchanged),
  );
  share(
    'generalisation',
    after.generalisation,
    settings.generalisationMin,
    null,
    paraphrases.length,
  );
  share('locality', after.locality, settings.localityMin, before.locality, neighbours.length);
  share(
    'retention',
    after.retention,
    settings.retentionMin,
    before.retention,
    Math.min(heldBefore, settings.retentionSample),
  );
  for (const [name, results] of [
    ['generalisation', paraphrases],
    ['locality', neighbours],
  ] as const) {
    const told = after[name];
    const counted = results.length === 0 ? null : results.filter(Boolean).length / results.length;
    // Neighbours that several corrections name are asked for once.
    if (name === 'generalisation' && told !== counted)
      say(
        `it tells a ${name} of ${told ?? 'nothing'}, and its details give ${counted ?? 'nothing'}`,
      );
  }
  if (after.canaryRatio > settings.canaryRatioMax && after.canaryRatio > before.canaryRatio)
    say(
      `its probes failed: canary ratio ${after.canaryRatio} of at most ${settings.canaryRatioMax}`,
    );
  if (after.editNorm > settings.editNormMax && after.editNorm > before.editNorm)
    say(`its probes failed: edit norm ${after.editNorm} of at most ${settings.editNormMax}`);

  function share(
    name: string,
    value: number | null,
    min: number,
    earlier: number | null,
    of: number,
  ): void {
    if (
      value === null ||
      value >= min ||
      (earlier !== null && value >= earlier) ||
      (of > 1 && (1 - value) * of <= 1 + 1e-9)
    )
      return;
    say(`its probes failed: ${name} ${value}, at least ${min} is asked`);
  }
}

function fold(
  entry: VersionEntry,
  chain: Chain,
  active: Map<string, Held>,
  say: (what: string) => void,
): void {
  const { version } = entry;
  for (const { correctionId, because, by } of entry.removed) {
    const held = active.get(correctionId);
    if (held === undefined) say(`it removes ${correctionId}, which does not hold`);
    else {
      held.removed = { version, because, by };
      held.told.push(
        `${because === 'superseded' ? 'SUPERSEDED' : because === 'contradicted' ? 'QUARANTINED' : 'RETRACTED'} ${version}`,
      );
      if (entry.undo !== undefined) chain.undone.add(held.factKey);
      active.delete(correctionId);
    }
  }
  for (const { correctionId: id, factKey, issuedAt, target, position, origin } of entry.added) {
    const earlier = chain.corrections.get(id);
    if (earlier !== undefined && origin === undefined)
      say(`it adds ${id}, which version ${earlier.added} added already`);
    const holder = [...active.values()].find((held) => held.factKey === factKey);
    if (holder !== undefined)
      say(`it adds ${id} to the fact "${factKey}", of which ${holder.id} holds`);
    const held: Held = {
      id,
      factKey,
      issuedAt,
      target,
      record: `${position.partition}-${position.offset}`,
      added: version,
      removed: null,
      told: [...(earlier?.told ?? []), `COMMITTED ${version}`],
    };
    if (origin !== undefined) chain.undone.add(factKey);
    chain.corrections.set(id, held);
    active.set(id, held);
  }
  for (const { id, position } of entry.retractions) {
    const earlier = chain.retractions.get(id);
    if (earlier !== undefined)
      say(`it carries out ${id}, which version ${earlier.version} did already`);
    chain.retractions.set(id, { version, record: `${position.partition}-${position.offset}` });
  }
}
