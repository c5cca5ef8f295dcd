/** Finds revisions that no version has, by their fact. */
import { normalisedText } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import type { VersionLog } from '../log/version-log.ts';
import { TRACES_MAX } from './trace.ts';

/** Outcomes of the register that one request reads. */
const DECIDED_READ_MAX = 20_000;

/**
 * Finds outcomes of revisions that no version has and whose fact has one of the subjects or the
 * prompt, the latest first. `complete`: the whole register was read.
 */
export async function refusedAbout(
  log: VersionLog,
  about: { subjects?: readonly string[]; prompt?: string },
): Promise<{ outcomes: Outcome[]; complete: boolean }> {
  const subjects = new Set(about.subjects?.map(normalisedText));
  const prompt = about.prompt === undefined ? null : normalisedText(about.prompt);
  const outcomes: Outcome[] = [];
  let read = 0;
  for await (const outcome of log.registered.decided()) {
    if (++read > DECIDED_READ_MAX) break;
    if (outcome.status === 'COMMITTED' || outcome.status === 'RETRACTED') continue;
    const fact = factOf(outcome.factKey);
    if (fact === null) continue;
    if (subjects.has(fact.subject) || (prompt !== null && fact.prompt === prompt))
      outcomes.push(outcome);
  }
  outcomes.sort((a, b) => b.decidedAt - a.decidedAt);
  return { outcomes: outcomes.slice(0, TRACES_MAX), complete: read <= DECIDED_READ_MAX };
}

/** Parses a fact's key: the subject, and the prompt where the fact has no relation of its own. */
export function factOf(
  factKey: string,
): { subject: string; relation: string; prompt: string | null } | null {
  const parts = /^((?:[^\\|]|\\.)*)\|((?:[^\\|]|\\.)*)$/su.exec(factKey)?.slice(1);
  if (parts === undefined) return null;
  const [subject, relation] = parts.map((part) => part.replace(/\\(.)/gsu, '$1')) as [
    string,
    string,
  ];
  const prompt = relation.includes('{}') ? relation.replace('{}', () => subject) : null;
  return { subject, relation, prompt };
}
