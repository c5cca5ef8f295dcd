/**
 * Greedy answers of any version to many prompts, with the smallest sufficient hook. If each subject
 * has its own map, behind a gate that opens at its name, a correction affects only texts that name
 * its subject. So the hook contains only corrections whose subject may be named in the prompts or
 * their answers.
 */
import type { Engine } from '../../model/engine/engine.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import { ensureHook, hookIdOf } from '../../versions/log/hook-pairs.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { lettersOf } from './subjects-in-text.ts';

interface Source {
  engine: Engine;
  log: VersionLog;
  /** The version that answers other requests. */
  served: History | null;
}

export class GreedyAnswers {
  readonly #letters = new Map<string, string>();

  private constructor(
    private readonly source: Source & { servedHook: string | null },
    private readonly tokensMax: number,
    /** True if an answer depends only on corrections of the subjects that the text names. */
    readonly bySubject: boolean,
  ) {}

  static async of(source: Source, tokensMax: number): Promise<GreedyAnswers> {
    const { gate } = (await source.engine.describe()).parameters;
    const bySubject = gate.kind === 'subject' && gate.map === 'subject';
    const servedHook = hookIdOf(source.served?.active.values() ?? []);
    return new GreedyAnswers({ ...source, servedHook }, tokensMax, bySubject);
  }

  /** Returns a version's answers. Throws a RangeError if the model cannot read a prompt. */
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
      // An answer may name subjects that its prompt does not; each round adds at least one.
      if (wider.length === rows.length) return answers;
      rows = wider;
    }
  }

  /** Tells whether the subject may be named in a text; `letters` is the text's `lettersOf`. */
  mayBeNamed(subject: string, letters: string): boolean {
    let name = this.#letters.get(subject);
    if (name === undefined) this.#letters.set(subject, (name = lettersOf(subject)));
    return letters.includes(name);
  }

  async #ask(rows: readonly ActiveCorrection[], prompts: readonly string[]): Promise<string[]> {
    const { engine, log, servedHook } = this.source;
    // Counts as a use, so that the engine keeps the hook that other requests need.
    if (servedHook !== null) await engine.holds(servedHook);
    const hookId = await ensureHook(engine, log, rows);
    const probes = prompts.map((prompt) => ({ prompt, greedyTokensMax: this.tokensMax }));
    return (await engine.probe(hookId, probes)).map(({ answer }) => answer);
  }

  /** Returns corrections of subjects in `already`, or that may be named in the texts. */
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
