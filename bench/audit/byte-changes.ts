/** Times `verify`, and checks that it detects a one-byte change anywhere in a lineage. */
import type { ObjectStore } from '../../versions/stores/object-store.ts';
import { verifyLineage, type Verification } from '../../versions/audit/verify.ts';
import { OverlayStore } from './overlay-store.ts';

export type VerifyFigures = Awaited<ReturnType<typeof measureVerify>>;

/** Times the check of an intact lineage, then repeats the check once per single-byte change. */
export async function measureVerify(
  store: ObjectStore,
  lineage: string,
  changes: number,
  changed: (done: number) => void,
) {
  const seconds: number[] = [];
  let whole: Verification | null = null;
  for (let round = 0; round < ROUNDS; round++) {
    const began = performance.now();
    whole = await verifyLineage(store, lineage);
    seconds.push((performance.now() - began) / 1_000);
  }
  const names: string[] = [];
  for await (const name of store.list(`lineages/${lineage}/`)) names.push(name);
  const overlay = new OverlayStore(store);
  const missed: string[] = [];
  const began = performance.now();
  for (let change = 0; change < changes; change++) {
    const name = names[drawn(names.length)]!;
    const bytes = (await store.get(name))!.slice();
    const at = drawn(bytes.length);
    bytes[at]! ^= 1 + drawn(255);
    overlay.replace(name, bytes);
    const { findings } = await verifyLineage(overlay, lineage);
    if (findings.length === 0) missed.push(`${name} at byte ${at}`);
    overlay.restore(name);
    changed(change + 1);
  }
  const { versions, objects, bytes, findings } = whole!;
  return {
    seconds,
    sound: findings.length === 0,
    versions,
    objects,
    bytes,
    changes: {
      made: changes,
      found: changes - missed.length,
      missed,
      seconds: (performance.now() - began) / 1_000,
    },
  };
}

const ROUNDS = 3;

function drawn(below: number): number {
  return Math.floor(Math.random() * below);
}
