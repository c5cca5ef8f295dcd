/** Ways to plant the bugs of faulty writers in a world. */
import { canonicalJson } from '../../../versions/log/canonical-json.ts';
import { recordCodec } from '../../../schemas/records/avro.ts';
import type { Outcome } from '../../../schemas/outcome.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';
import type { VersionEntry } from '../../../schemas/version-entry.ts';
import { check } from './checker.ts';
import { sha256 } from './evidence.ts';
import type { World } from './world.ts';

export const outcomeCodec = recordCodec('correction-outcome');
export const versionCodec = recordCodec('hook-version');

/** The violations that the checker finds after a bug is planted in a copy of this world. */
export function violationsOf(plant: (world: World) => void, of: World): string[] {
  const world = structuredClone(of);
  // A clone of a Buffer is a plain array of bytes.
  for (const topic of [world.corrections, world.deadLetters, world.outcomes, world.versions])
    for (const record of topic)
      Object.assign(record, {
        key: record.key && Buffer.from(record.key),
        value: record.value && Buffer.from(record.value),
      });
  for (const [name, bytes] of world.store) world.store.set(name, Buffer.from(bytes));
  plant(world);
  return check(world, DEFAULT_LINEAGE_SETTINGS.verdict).violations;
}

export const entryName = (version: number): string =>
  `lineages/l/log/${String(version).padStart(20, '0')}.json`;
export const entryOf = (world: World, version: number): VersionEntry =>
  JSON.parse(world.store.get(entryName(version))!.toString()) as VersionEntry;

/** Changes an entry as a faulty writer would: later entries and the topic agree with it. */
export function rewrite(
  world: World,
  version: number,
  change: (entry: VersionEntry) => void,
): void {
  let parent: string | null | undefined;
  for (let at = version; world.store.has(entryName(at)); at++) {
    const entry = entryOf(world, at);
    if (at === version) change(entry);
    if (parent !== undefined) entry.parent = parent;
    const bytes = Buffer.from(canonicalJson(entry));
    world.store.set(entryName(at), bytes);
    parent = sha256(bytes);
    for (const record of world.versions) {
      const told = versionCodec.decode(record.value!);
      if (told.version === at)
        record.value = versionCodec.encode({ ...told, hash: parent, parent: entry.parent });
    }
  }
}

export function blobNameOf(world: World, version: number): string {
  const { sha256: hash } = entryOf(world, version).pairs!;
  return `lineages/l/blobs/${hash.slice(0, 2)}/${hash}`;
}

export function changeOutcomes(world: World, change: (outcome: Outcome) => Outcome | null): void {
  world.outcomes = world.outcomes.flatMap((record) => {
    const outcome = change(outcomeCodec.decode(record.value!));
    return outcome === null ? [] : [{ ...record, value: outcomeCodec.encode(outcome) }];
  });
}

/** Changes the results of the probes, as if those values had been measured. */
export function changeDetails(
  world: World,
  version: number,
  change: (details: { id: string; effective: boolean }[]) => void,
): void {
  const { sha256: hash } = entryOf(world, version).probes.details;
  const details = JSON.parse(
    world.store.get(`lineages/l/blobs/${hash.slice(0, 2)}/${hash}`)!.toString(),
  ) as { id: string; effective: boolean }[];
  change(details);
  const bytes = Buffer.from(canonicalJson(details));
  const now = { sha256: sha256(bytes), bytes: bytes.length };
  world.store.set(`lineages/l/blobs/${now.sha256.slice(0, 2)}/${now.sha256}`, bytes);
  rewrite(world, version, (entry) => (entry.probes.details = now));
}
