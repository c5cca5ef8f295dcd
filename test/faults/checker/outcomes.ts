/**
 * Checks that every valid record has the outcomes that the version log implies, and exactly one
 * final outcome.
 */
import { recordCodec } from '../../../schemas/records/avro.ts';
import type { Outcome } from '../../../schemas/outcome.ts';
import { recordName, type Chain, type Evidence, type Report, type Request } from './evidence.ts';

/** Checks all outcomes; returns the last one of each record in lower case. */
export function checkOutcomes(evidence: Evidence, report: Report): Map<string, string> {
  const announced = outcomesByRecord(evidence, report);
  const last = new Map<string, string>();
  for (const request of evidence.requests.values()) {
    const outcomes = announced.get(request.record) ?? [];
    last.set(
      request.record,
      outcomes.at(-1)?.status.toLowerCase().replaceAll('_', ' ') ?? 'nothing',
    );
    checkRecord(request, outcomes, expectedOf(request, evidence.chain), report);
  }
  checkDuplicates(evidence, last, report);
  return last;
}

/** Collects each record's outcomes as announced; a repetition of the last one counts once. */
function outcomesByRecord(
  { world, requests, invalid }: Evidence,
  report: Report,
): Map<string, Outcome[]> {
  const codec = recordCodec('correction-outcome');
  const byRecord = new Map<string, Outcome[]>();
  for (const record of world.outcomes) {
    let outcome: Outcome;
    try {
      outcome = codec.decode(record.value ?? Buffer.alloc(0));
    } catch {
      report(`Outcomes: record ${recordName(record)} of the outcomes topic cannot be read.`);
      continue;
    }
    const name = recordName(outcome.position);
    const { status, version, revisionId, factKey, lineage } = outcome;
    const request = requests.get(name);
    if (invalid.has(name))
      report(`Outcomes: record ${name} is invalid, and has outcome ${status}.`);
    else if (request === undefined)
      report(`Outcomes: record ${name} does not exist, and has outcome ${status}.`);
    else if (request.id !== revisionId || request.factKey !== factKey || lineage !== world.lineage)
      report(`Outcomes: record ${name} is ${request.id}, and an outcome calls it ${revisionId}.`);
    else {
      const list = byRecord.get(name) ?? [];
      const last = list.at(-1);
      if (last?.status !== status || last.version !== version) list.push(outcome);
      byRecord.set(name, list);
    }
  }
  return byRecord;
}

/** The outcomes that the log implies for a record. */
interface Expected {
  /** Statuses that the last outcome may have. */
  last: Outcome['status'][];
  /** The version of the last outcome; null if any is allowed. */
  version: number | null;
  /** Outcomes that may have been announced earlier, as `<status> <version>`. */
  before: string[];
  because: string;
}

function expectedOf({ kind, id, record }: Request, chain: Chain): Expected {
  if (kind === 'retraction') {
    const version = chain.retractions.get(id)?.version;
    return version === undefined
      ? {
          last: ['NOTHING_TO_RETRACT', 'SUPERSEDED', 'QUARANTINED'],
          version: null,
          before: [],
          because: 'no version carries it out',
        }
      : { last: ['RETRACTED'], version, before: [], because: `version ${version} carries it out` };
  }
  const held = chain.corrections.get(id);
  if (held?.record !== record)
    return {
      last: ['SUPERSEDED', 'QUARANTINED', 'DUPLICATE'],
      version: null,
      before: [],
      because: 'no version added this record',
    };
  const last = [held.history.at(-1)!.split(' ')[0] as Outcome['status']];
  const before = held.history.slice(0, -1);
  const added = `version ${held.added} added it and`;
  if (held.removed === null)
    return { last, version: held.added, before, because: `${added} it is active` };
  const { version, because, by } = held.removed;
  return {
    last,
    version,
    before,
    because: `${added} version ${version} removed it (${because}, ${by})`,
  };
}

function checkRecord(
  { record, id }: Request,
  outcomes: readonly Outcome[],
  expected: Expected,
  report: Report,
): void {
  const name = `record ${record} (${id})`;
  const last = outcomes.at(-1);
  if (last === undefined) {
    const { version } = expected;
    const where = version === null ? 'and no version has it' : `though version ${version} has it`;
    return report(`Lost: ${name} has no outcome, ${where}.`);
  }
  const heard = outcomes
    .map(({ status, version }) => (version === null ? status : `${status} ${version}`))
    .join(', ');
  const wrongVersion = expected.version !== null && last.version !== expected.version;
  if (!expected.last.includes(last.status) || wrongVersion)
    report(`Outcomes: ${name} has outcomes ${heard}; ${expected.because}.`);
  // A record without a version may be decided twice with different reasons, for example after a
  // reset.
  const others = outcomes.filter(
    ({ status, version }) =>
      (status !== last.status || (expected.version !== null && version !== expected.version)) &&
      !expected.before.includes(`${status} ${version}`),
  );
  if (others.length > 0)
    report(`Outcomes: ${name} has outcomes ${heard}, which contradict each other.`);
  if (last.status === 'QUARANTINED' && (last.reason ?? '') === '')
    report(`Outcomes: ${name} was quarantined without a reason.`);
}

/** All records of an id except one must be duplicates. */
function checkDuplicates(
  { requests }: Evidence,
  last: ReadonlyMap<string, string>,
  report: Report,
): void {
  const byId = new Map<string, string[]>();
  for (const { id, record } of requests.values()) byId.set(id, [...(byId.get(id) ?? []), record]);
  for (const [id, records] of byId) {
    const originals = records.filter((record) => last.get(record) !== 'duplicate');
    if (originals.length === 1) continue;
    const outcomes = records.map((record) => `${record} ${last.get(record)}`).join(', ');
    report(
      `Doubled: ${originals.length} of the ${records.length} records of ${id} are not ` +
        `duplicates: ${outcomes}.`,
    );
  }
}

/**
 * The latest revision of each fact must be active. Contradicting corrections of the same time must
 * not be; after a quarantine or an undo either is allowed.
 */
export function checkNewestActive(
  { requests, chain }: Evidence,
  last: ReadonlyMap<string, string>,
  report: Report,
): void {
  const facts = new Map<string, Request[]>();
  for (const request of requests.values())
    facts.set(request.factKey, [...(facts.get(request.factKey) ?? []), request]);
  const active = new Map(
    [...chain.corrections.values()]
      .filter(({ removed }) => removed === null)
      .map(({ factKey, id }) => [factKey, id]),
  );
  for (const [factKey, revisions] of facts) {
    if (chain.undone.has(factKey)) continue;
    const latest = Math.max(...revisions.map(({ issuedAt }) => issuedAt));
    const newest = revisions.filter(({ issuedAt }) => issuedAt === latest);
    const id = active.get(factKey);
    const isActive = newest.some((one) => one.id === id);
    const quarantined = newest.filter(({ record }) => last.get(record) === 'quarantined');
    const about = `Order: for the fact "${factKey}"`;
    if (new Set(newest.map(({ target }) => target)).size > 1) {
      if (isActive)
        report(`${about} ${id} is active, which a correction of the same time contradicts.`);
      if (quarantined.length === 0)
        report(
          `${about} ${newest.map((one) => one.id).join(' and ')} contradict each other and were ` +
            `not quarantined.`,
        );
    } else if (
      quarantined.length === 0 &&
      (newest[0]!.kind === 'retraction' ? id !== undefined : !isActive)
    ) {
      const outcomes = newest.map(({ record }) => last.get(record)).join(', ');
      const latestId = newest[0]!.id;
      report(
        `${about} ${id ?? 'nothing'} is active, and ${latestId} (${outcomes}) was issued last.`,
      );
    }
  }
}
