/**
 * Greedy answers of any version to many prompts, with no larger hook than they need. Where every
 * subject has a map of its own behind a gate that asks for its name, a correction has no say in a
 * text that does not name its subject; so the hook is made of the corrections whose subject may be
 * named in the prompts or in what is answered, and of no others.
 */
import type { Engine } from '../../model/engine/engine.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import { ensureHook, hookIdOf } from '../../versions/log/hook-pairs.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { lettersOf } from './subjects-in-text.ts';

export class GreedyAnswers {
  readonly #letters = new Map<string, string>();

  private constructor(
    private readonly engine: Engine,
    private readonly log: VersionLog,
    private readonly tokensMax: number,
    /** Whether an answer depends on the corrections of the subjects named in the text alone. */
    readonly bySubject: boolean,
    private readonly servedHook: string | null,
  ) {}

  /**
   * `served` is the version that other requests ask for: its hook is not forgotten for those that
   * are made here.
   */
  static async of(
    engine: Engine,
    log: VersionLog,
    tokensMax: number,
    served: History | null,
  ): Promise<GreedyAnswers> {
    const { gate } = (await engine.describe()).parameters;
    return new GreedyAnswers(
      engine,
      log,
      tokensMax,
      gate.kind === 'subject' && gate.map === 'subject',
      hookIdOf(served?.active.values() ?? []),
    );
  }

  /**
   * The version's answers, in the order of the prompts. Throws a RangeError where the model cannot
   * read a prompt.
   */
  async at({ active }: History, prompts: readonly string[]): Promise<string[]> {
    if (prompts.length === 0) return [];
    if (!this.bySubject) return await this.#ask([...active.values()], prompts);
    let rows = this.#concerned(active, prompts);
    for (;;) {
      const answers = await this.#ask(rows, prompts);
      const wider = this.#concerned(
        active,
        prompts.map((prompt, i) => prompt + answers[i]!),
        rows,
      );
      // An answer may name subjects that its prompt does not; each round takes in at least one, so
      // that it ends.
      if (wider.length === rows.length) return answers;
      rows = wider;
    }
  }

  /** Whether the subject may be named in the text, which `lettersOf` has made of it. */
  mayBeNamed(subject: string, letters: string): boolean {
    let name = this.#letters.get(subject);
    if (name === undefined) this.#letters.set(subject, (name = lettersOf(subject)));
    return letters.includes(name);
  }

  async #ask(rows: readonly ActiveCorrection[], prompts: readonly string[]): Promise<string[]> {
    if (this.servedHook !== null) await this.engine.holds(this.servedHook);
    const hookId = await ensureHook(this.engine, this.log, rows);
    return (
      await this.engine.probe(
        hookId,
        prompts.map((prompt) => ({ prompt, greedyTokensMax: this.tokensMax })),
      )
    ).map(({ answer }) => answer);
  }

  /**
   * The corrections of subjects that may be named in the texts, and those that were taken in
   * already, in the order of the version.
   */
  #concerned(
    active: ReadonlyMap<string, ActiveCorrection>,
    texts: readonly string[],
    already: readonly ActiveCorrection[] = [],
  ): ActiveCorrection[] {
    const letters = texts.map(lettersOf);
    const subjects = new Set(already.map(({ subject }) => subject));
    return [...active.values()].filter(({ subject }) => {
      if (!subjects.has(subject) && letters.some((text) => this.mayBeNamed(subject, text)))
        subjects.add(subject);
      return subjects.has(subject);
    });
  }
}
