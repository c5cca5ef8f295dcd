/**
 * Properties of undos over random histories: the corrections, their order, and the bits of their
 * pairs.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createEditActivities, createLedgerActivities } from '../../../activities/index.ts';
import type { UndoTarget } from '../../../schemas/undo.ts';
import { readPairs } from '../../../versions/log/hook-pairs.ts';
import { encodePairs } from '../../../versions/log/pairs.ts';
import type { History } from '../../../versions/log/history.ts';
import { Versions } from '../../../versions/versions.ts';
import { FakeEngine } from '../../harness/fake-engine.ts';
import { MemoryStore } from '../../harness/memory-store.ts';
import { correction, LINEAGE, retraction } from '../../harness/corrections.ts';
import { runBatch } from '../../harness/test-lineage.ts';
import { runUndo, undoRequest } from '../../harness/undo-run.ts';

type Deed =
  | { kind: 'batch'; facts: { fact: number; target: string | null }[] }
  /** The version or correction at this share of all that exist. */
  | { kind: 'version' | 'rollback' | 'correction'; at: number };

const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const deed: fc.Arbitrary<Deed> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('batch' as const),
      facts: fc.array(
        fc.record({ fact: fc.nat(4), target: fc.constantFrom('Lyon', 'Oslo', 'Rome', null) }),
        { minLength: 1, maxLength: 3 },
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom('version' as const, 'rollback' as const, 'correction' as const),
      at: share,
    }),
  },
);

it('an undo restores the earlier state bit for bit and changes nothing else', async () => {
  let undone = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(deed, { minLength: 4, maxLength: 14 }), async (deeds) => {
      const world = new World();
      for (const one of deeds) {
        const before = await world.log.read();
        if (one.kind === 'batch') {
          await world.batch(one.facts);
          await world.checkRegister();
          continue;
        }
        const target = await world.targetOf(one);
        if (target === null) continue;
        const version = await world.undo(target);
        if (version === null) continue;
        undone += 1;
        const after = await world.log.read();
        await world.checkRegister();
        if (target.kind === 'rollback')
          expect(await world.hookOf(after)).toEqual(
            await world.hookOf(await world.log.at(target.version)),
          );
        else await world.checkOnlyUndone(target, before, after);
        // An undo is a version too: undoing it restores what it removed.
        expect(await world.undo({ kind: 'version', version })).toBe(version + 1);
        expect(await world.hookOf(await world.log.read())).toEqual(await world.hookOf(before));
        await world.checkRegister();
        expect(await world.undo({ kind: 'version', version: version + 1 })).toBe(version + 2);
        expect(await world.hookOf(await world.log.read())).toEqual(await world.hookOf(after));
      }
      const { findings, corrections } = await world.versions.verify(LINEAGE);
      expect(findings).toEqual([]);
      expect(corrections).toBe((await world.log.read()).active.size);
    }),
    { numRuns: 60 },
  );
  expect(undone).toBeGreaterThan(20);
}, 120_000);

class World {
  readonly versions = new Versions(new MemoryStore());
  readonly log = this.versions.log(LINEAGE);
  readonly #activities = {
    ...createEditActivities({ engine: new FakeEngine(), versions: this.versions }),
    ...createLedgerActivities({ versions: this.versions }),
  };
  readonly #corrections: string[] = [];
  #said = 0;
  #undos = 0;

  /**
   * Corrections of five facts, the last two of which share a prompt; each is issued after the
   * previous ones.
   */
  async batch(facts: { fact: number; target: string | null }[]): Promise<void> {
    this.#said += 1;
    const issuedAt = 1_000 + this.#said;
    const revisions = facts.map(({ fact, target }) => {
      this.#said += 1;
      const subject = `Subject ${Math.min(fact, 3)}`;
      const made = correction(`c${this.#said}`, {
        subject,
        relation: `fact ${fact}`,
        prompt: `${subject} is in`,
        target: target ?? 'none',
        issuedAt: issuedAt + this.#said,
      });
      if (target !== null) this.#corrections.push(made.correction.id);
      return target === null ? retraction(made, issuedAt + this.#said) : made;
    });
    const { staged, plan, commit } = await runBatch(this.#activities, `b${this.#said}`, revisions);
    if (staged.rows.length + plan.removals.length > 0) await commit();
  }

  async targetOf({ kind, at }: Exclude<Deed, { kind: 'batch' }>): Promise<UndoTarget | null> {
    const { head } = await this.log.read();
    if (kind === 'rollback') return { kind, version: Math.floor(at * (head.version + 1)) };
    if (kind === 'version')
      return head.version === 0 ? null : { kind, version: 1 + Math.floor(at * head.version) };
    const id = this.#corrections[Math.floor(at * this.#corrections.length)];
    return id === undefined ? null : { kind, id };
  }

  async undo(target: UndoTarget): Promise<number | null> {
    this.#undos += 1;
    const { plan, version } = await runUndo(
      this.#activities,
      undoRequest(`u${this.#undos}`, target),
    );
    expect(plan.nothing === null).toBe(version !== null);
    return version;
  }

  /** The corrections in order, with all bits of the hook. */
  async hookOf(history: History) {
    const rows = [...history.active.values()];
    const pairs = await readPairs(this.log, rows);
    return {
      ids: rows.map(({ correctionId }) => correctionId),
      pairs: pairs === null ? null : Buffer.from(encodePairs(pairs)).toString('base64'),
    };
  }

  /**
   * Checks that only what the undone version or correction added is gone, and only what it removed
   * is back.
   */
  async checkOnlyUndone(
    target: Exclude<UndoTarget, { kind: 'rollback' }>,
    before: History,
    after: History,
  ): Promise<void> {
    const register = await this.log.register();
    const version =
      target.kind === 'version'
        ? target.version
        : (await register.outcomesOf([target.id])).get(target.id)!.version!;
    const { entry } = await this.log.entry(version);
    const added = new Set(
      target.kind === 'version' ? entry.added.map(({ correctionId }) => correctionId) : [target.id],
    );
    const removed = new Set(
      entry.removed
        .filter(({ by }) => target.kind === 'version' || by === target.id)
        .map(({ correctionId }) => correctionId),
    );
    for (const id of before.active.keys()) expect(after.active.has(id)).toBe(!added.has(id));
    for (const id of after.active.keys())
      expect(before.active.has(id) || removed.has(id)).toBe(true);
  }

  /** Checks that the register's outcome of every committed correction is its current one. */
  async checkRegister(): Promise<void> {
    const { active, head } = await this.log.read();
    const register = await this.log.register();
    for (const outcome of (await register.outcomesOf(this.#corrections)).values()) {
      const course = await register.outcomeHistory(outcome.revisionId);
      const [standing] = await register.settle([outcome]);
      expect(standing).toEqual(course.at(-1));
      if (outcome.status === 'COMMITTED')
        expect(standing!.status === 'COMMITTED').toBe(active.has(outcome.revisionId));
      if (outcome.status === 'COMMITTED')
        expect(standing!.version).toBeLessThanOrEqual(head.version);
      expect(course.every(({ version }, i) => i === 0 || version! > course[i - 1]!.version!)).toBe(
        true,
      );
    }
  }
}
