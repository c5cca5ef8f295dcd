/**
 * Something that went wrong and is not healed: what, since when, why, and the one command that
 * heals it.
 */
export interface Failure {
  lineage: string;
  kind:
    | 'damaged log'
    | 'frozen'
    | 'lineage ended'
    | 'batch'
    | 'undo'
    | 'activity'
    | 'no worker'
    | 'workflow step'
    | 'quarantined'
    | 'dead letter'
    | 'topic made anew'
    | 'ingest';
  /** The correction, batch, activity or position that it is about. */
  subject: string;
  /** Milliseconds since 1970; null where nobody noted it. */
  since: number | null;
  cause: string;
  measured?: Record<string, number | string>;
  heal: string;
}

/** What one source had to say. */
export interface Findings {
  failures: Failure[];
  /** What could not be looked at, and why. */
  unseen: string[];
  /** Failures that were found and are not listed, for there are too many. */
  more: number;
  /** Failures that were found and have been healed since. */
  healed: number;
}

export function nothingFound(): Findings {
  return { failures: [], unseen: [], more: 0, healed: 0 };
}

export function together(findings: readonly Findings[]): Findings {
  return {
    failures: findings.flatMap(({ failures }) => failures),
    unseen: findings.flatMap(({ unseen }) => unseen),
    more: findings.reduce((sum, { more }) => sum + more, 0),
    healed: findings.reduce((sum, { healed }) => sum + healed, 0),
  };
}

/** A word as a shell takes it. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./~-]+$/.test(text) && !text.startsWith('~')
    ? text
    : `'${text.replaceAll("'", `'\\''`)}'`;
}
