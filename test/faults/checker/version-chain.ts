/**
 * The checker's own reading of a version log: names, numbers, hashes and the fold over its entries.
 * It shares nothing with versions/ or activities/, so that it does not repeat a mistake made there.
 */
import type { VerdictSettings } from '../../../schemas/settings.ts';
import type { VersionEntry } from '../../../schemas/version-entry.ts';
import { checkPairs, checkProbes } from './entry-contents.ts';
import {
  sha256,
  type AliasRecord,
  type Chain,
  type Held,
  type Report,
  type Store,
} from './evidence.ts';
import { checkOrigins, checkUndone } from './undo-entries.ts';
import type { World } from './world.ts';

/** Reads the chain of a lineage and reports its faults. */
export function readChain(
  { store, lineage }: Pick<World, 'store' | 'lineage'>,
  settings: VerdictSettings,
  report: Report,
): Chain {
  checkNames(store, lineage, report);
  const chain: Chain = {
    entries: [],
    corrections: new Map(),
    undone: new Set(),
    retractions: new Map(),
    active: [new Set()],
    aliases: [],
  };
  const active = new Map<string, Held>();
  const batches = new Map<string, number>();
  const folder = `lineages/${lineage}/log/`;
  const count = [...store.keys()].filter((name) => name.startsWith(folder)).length;
  for (let version = 1; chain.entries.length < count; version++) {
    const bytes = store.get(`${folder}${String(version).padStart(20, '0')}.json`);
    if (bytes === undefined) {
      const later = count - chain.entries.length;
      report(`version ${version} is missing, and ${later} versions follow the gap`);
      break;
    }
    let entry: VersionEntry;
    try {
      entry = JSON.parse(bytes.toString('utf8')) as VersionEntry;
    } catch {
      report(`the entry of version ${version} is not JSON`);
      break;
    }
    const fault: Report = (sentence) => report(`version ${version}: ${sentence}`);
    checkPlace(entry, { version, lineage, parent: chain.entries.at(-1)?.hash ?? null }, fault);
    const before = batches.get(entry.batchId);
    if (before !== undefined) fault(`batch ${entry.batchId} made version ${before} already`);
    batches.set(entry.batchId, version);
    // Probes come first: they were measured against the corrections active before.
    checkProbes(store, entry, { ...settings, activeBefore: active.size }, fault);
    checkPairs(store, entry, fault);
    checkOrigins(store, entry, chain, fault);
    fold(entry, chain, active, fault);
    chain.active.push(new Set(active.keys()));
    checkUndone(entry, chain, fault);
    if (entry.corrections !== active.size)
      fault(`it counts ${entry.corrections} corrections, and ${active.size} are active`);
    chain.entries.push({ entry, hash: sha256(bytes) });
  }
  checkAliases(store, lineage, chain, report);
  return chain;
}

function checkPlace(
  entry: VersionEntry,
  { version, lineage, parent }: { version: number; lineage: string; parent: string | null },
  fault: Report,
): void {
  if (entry.parent !== parent)
    fault(
      `its parent is ${entry.parent ?? 'none'}, ` +
        `and the entry before it hashes to ${parent ?? 'nothing'}`,
    );
  if (entry.version !== version || entry.lineage !== lineage)
    fault(`its entry is of version ${entry.version} of ${entry.lineage}`);
}

/** Alias records are numbered from 1, sealed with their hash, and name existing versions. */
function checkAliases(
  store: Store,
  lineage: string,
  { entries, aliases }: Chain,
  report: Report,
): void {
  const folder = `lineages/${lineage}/aliases/`;
  const names = [...store.keys()].filter((name) => name.startsWith(folder)).sort();
  const ids = new Set<string>();
  for (const [i, name] of names.entries()) {
    if (name !== `${folder}${String(i + 1).padStart(20, '0')}.json`)
      return report(`${name} is in the place of alias record ${i + 1}`);
    const text = store.get(name)!.toString('utf8');
    const [, content, seal] =
      /^\{"content":(\{.*\}),"sha256":"([0-9a-f]{64})"\}$/s.exec(text) ?? [];
    if (content === undefined || sha256(Buffer.from(content)) !== seal)
      return report(`${name} does not match its seal`);
    const record = JSON.parse(content) as AliasRecord;
    const { id, version } = record;
    aliases.push(record);
    if (version !== null && version > entries.length)
      report(`${name} names version ${version} of ${entries.length}`);
    if (ids.has(id)) report(`${name} repeats ${id}`);
    ids.add(id);
  }
}

/** Every object has a known name, and an object named by its hash is whole. */
function checkNames(store: Store, lineage: string, report: Report): void {
  const prefix = `lineages/${lineage}/`;
  for (const [name, bytes] of store) {
    if (name.startsWith('.tmp/')) continue;
    const rest = name.startsWith(prefix) ? name.slice(prefix.length) : '';
    const hash = /^(?:blobs\/[0-9a-f]{2}|staging\/[^/]+)\/([0-9a-f]{64})$/.exec(rest)?.[1];
    if (hash !== undefined) {
      if (sha256(bytes) !== hash) report(`${name} holds bytes that hash to ${sha256(bytes)}`);
    } else if (!/^(log\/\d{20}\.json$|(register|aliases|histories)\/)/.test(rest))
      report(`the store holds ${name}, which is not an object of the lineage`);
  }
}

const STATUS_OF_REMOVAL: Record<string, string> = {
  superseded: 'SUPERSEDED',
  contradicted: 'QUARANTINED',
};

function fold(entry: VersionEntry, chain: Chain, active: Map<string, Held>, fault: Report): void {
  const { version } = entry;
  for (const { correctionId, because, by } of entry.removed) {
    const held = active.get(correctionId);
    if (held === undefined) {
      fault(`it removes ${correctionId}, which is not active`);
      continue;
    }
    held.removed = { version, because, by };
    held.history.push(`${STATUS_OF_REMOVAL[because] ?? 'RETRACTED'} ${version}`);
    if (entry.undo !== undefined) chain.undone.add(held.factKey);
    active.delete(correctionId);
  }
  for (const { correctionId: id, factKey, issuedAt, target, position, origin } of entry.added) {
    const earlier = chain.corrections.get(id);
    if (earlier !== undefined && origin === undefined)
      fault(`it adds ${id}, which version ${earlier.added} added already`);
    const other = [...active.values()].find((held) => held.factKey === factKey);
    if (other !== undefined)
      fault(`it adds ${id} to the fact "${factKey}", for which ${other.id} is active`);
    if (origin !== undefined) chain.undone.add(factKey);
    const held: Held = {
      id,
      factKey,
      issuedAt,
      target,
      record: `${position.partition}-${position.offset}`,
      added: version,
      removed: null,
      history: [...(earlier?.history ?? []), `COMMITTED ${version}`],
    };
    chain.corrections.set(id, held);
    active.set(id, held);
  }
  for (const { id, position } of entry.retractions) {
    const earlier = chain.retractions.get(id);
    if (earlier !== undefined)
      fault(`it carries out ${id}, which version ${earlier.version} did already`);
    chain.retractions.set(id, { version, record: `${position.partition}-${position.offset}` });
  }
}
