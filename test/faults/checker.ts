/**
 * Decides from the topics and the version log alone whether anything was lost, doubled or let in
 * broken. It knows what was asked (the corrections topic), and reads everything else for itself; of
 * the project it takes the schemas only.
 */
import { recordCodec } from '../../schemas/records/avro.ts';
import { CORRECTION_LIMITS, factKeyOf, type FactCorrection } from '../../schemas/correction.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';
import type { Outcome } from '../../schemas/editing.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';
import type { TopicRecord, World } from './read-world.ts';
import { checkUndos } from './checked-undos.ts';
import { readChain, type Chain } from './version-chain.ts';

export interface Findings {
  /** Sentences with their evidence; empty: all is well. */
  violations: string[];
  /** What was looked at, with counts. */
  checks: string[];
  /** Number of records by what became of them in the end. */
  fates: Record<string, number>;
}

/** A record that can be taken: what it asks for. */
interface Asked {
  record: string;
  kind: 'correction' | 'retraction';
  id: string;
  factKey: string;
  issuedAt: number;
  target: string | null;
  /** Of a correction. */
  subject?: string;
  prompt?: string;
}

const nameOf = ({ partition, offset }: { partition: number; offset: string }): string =>
  `${partition}-${offset}`;

export function check(world: World, settings: VerdictSettings): Findings {
  const violations: string[] = [];
  const fault = (sentence: string): void => void violations.push(sentence);
  const checks: string[] = [];
  const chain = readChain(world.store, world.lineage, settings, (sentence) =>
    fault(`Log: ${sentence}.`),
  );
  checks.push(
    `${chain.entries.length} versions: contiguous, linked by hash, each with its probes passed; every blob hashes to its name (${world.store.size} files in the store)`,
  );

  const asked = new Map<string, Asked>();
  const unsound = new Set<string>();
  for (const record of world.corrections) {
    const read = askedBy(record, world.lineage);
    if (read === null) unsound.add(nameOf(record));
    else asked.set(read.record, read);
  }
  checkDeadLetters(world, unsound, fault);
  checks.push(
    `${unsound.size} records that cannot be taken: each in the dead-letter topic as it was, nothing else there (${world.deadLetters.length} dead letters)`,
  );

  const told = outcomesByRecord(world, asked, unsound, fault);
  const fates = fatesOf(asked, told, chain, fault);
  checks.push(
    `${asked.size} records that can be taken: each in exactly one final state (${world.outcomes.length} outcomes told)`,
  );
  checkLogAgainstRecords(chain, asked, fault);
  checkVersionsTold(world, chain, fault);
  checks.push(
    `${world.versions.length} announcements of versions agree with the log, and every version was announced`,
  );
  checkNewestHolds(asked, fates, chain, fault);
  checks.push(`of each fact the revision that was issued last holds, unless it was quarantined`);
  checkUndos(world.undos, chain, fault);
  if (world.undos.length > 0)
    checks.push(
      `${world.undos.length} undos: each ended once, in one version or in none, and the alias that it moved was let go (${chain.words.length} words on aliases)`,
    );
  checkAnswers(world, asked, chain, fault);
  if (world.answers !== null)
    checks.push(
      `${world.answers.texts.length} prompts: answered out of HEAD, with the correction that holds or as the base model does`,
    );
  for (const { partition, committed, end } of world.offsets) {
    if (BigInt(committed ?? '0') !== BigInt(end))
      fault(
        `Offsets: partition ${partition} ends at ${end}, and the group's offset is ${committed ?? 'not committed'}.`,
      );
  }
  checks.push(`${world.offsets.length} partitions: the group's offset is the partition's end`);

  const counts: Record<string, number> = { 'dead letter': unsound.size };
  for (const fate of fates.values()) counts[fate] = (counts[fate] ?? 0) + 1;
  return { violations, checks, fates: counts };
}

function askedBy(record: TopicRecord, lineage: string): Asked | null {
  const name = nameOf(record);
  if (record.value === null) {
    const factKey = record.key?.toString('utf8') ?? '';
    if (factKey === '') return null;
    return {
      record: name,
      kind: 'retraction',
      id: `retract:errata.${lineage}.corrections-${name}`,
      factKey,
      issuedAt: record.timestamp,
      target: null,
    };
  }
  if (record.value.length > CORRECTION_LIMITS.recordBytesMax) return null;
  let correction: FactCorrection;
  try {
    correction = recordCodec('fact-correction').decode(record.value);
  } catch {
    return null;
  }
  if (correction.lineage !== lineage || faultsOf(correction).length > 0) return null;
  return {
    record: name,
    kind: 'correction',
    id: correction.id,
    factKey: factKeyOf(correction),
    issuedAt: correction.issuedAt,
    target: correction.target,
    subject: correction.subject,
    prompt: correction.prompt,
  };
}

/** A dead letter may be there twice (it is sent at least once), but then it is the same twice. */
function checkDeadLetters(
  { corrections, deadLetters }: World,
  unsound: ReadonlySet<string>,
  fault: (sentence: string) => void,
): void {
  const originals = new Map(corrections.map((record) => [nameOf(record), record]));
  const found = new Map<string, string>();
  for (const letter of deadLetters) {
    const name = `${letter.headers['__connect.errors.partition']}-${letter.headers['__connect.errors.offset']}`;
    const original = originals.get(name);
    if (original === undefined)
      fault(`Dead letters: one says that it was record ${name}, which is not there.`);
    else if (!unsound.has(name))
      fault(`Dead letters: record ${name} is there, though it can be taken.`);
    else if (!sameBytes(letter.key, original.key) || !sameBytes(letter.value, original.value))
      fault(`Dead letters: record ${name} is there with other bytes than it had.`);
    const words = JSON.stringify(letter.headers, Object.keys(letter.headers).sort());
    if ((found.get(name) ?? words) !== words)
      fault(`Dead letters: record ${name} is there twice, with different headers.`);
    found.set(name, words);
  }
  for (const name of unsound)
    if (!found.has(name))
      fault(`Lost: record ${name} cannot be taken and is not in the dead-letter topic.`);
}

function sameBytes(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}

/** What was told of each record, in the order told, each thing once where it follows itself. */
function outcomesByRecord(
  { outcomes, lineage }: World,
  asked: ReadonlyMap<string, Asked>,
  unsound: ReadonlySet<string>,
  fault: (sentence: string) => void,
): Map<string, Outcome[]> {
  const codec = recordCodec('correction-outcome');
  const told = new Map<string, Outcome[]>();
  for (const record of outcomes) {
    let outcome: Outcome;
    try {
      outcome = codec.decode(record.value ?? Buffer.alloc(0));
    } catch {
      fault(`Outcomes: record ${nameOf(record)} of the outcomes topic cannot be read.`);
      continue;
    }
    const name = nameOf(outcome.position);
    const question = asked.get(name);
    if (unsound.has(name))
      fault(`Outcomes: record ${name} cannot be taken, and was told to be ${outcome.status}.`);
    else if (question === undefined)
      fault(`Outcomes: record ${name} is not there, and was told to be ${outcome.status}.`);
    else if (
      question.id !== outcome.revisionId ||
      question.factKey !== outcome.factKey ||
      outcome.lineage !== lineage
    )
      fault(
        `Outcomes: record ${name} is ${question.id}, and an outcome calls it ${outcome.revisionId}.`,
      );
    else {
      const list = told.get(name) ?? [];
      const last = list.at(-1);
      if (last?.status !== outcome.status || last.version !== outcome.version) list.push(outcome);
      told.set(name, list);
    }
  }
  return told;
}

/** What each record became in the end. */
function fatesOf(
  asked: ReadonlyMap<string, Asked>,
  told: ReadonlyMap<string, Outcome[]>,
  chain: Chain,
  fault: (sentence: string) => void,
): Map<string, string> {
  const fates = new Map<string, string>();
  for (const [name, question] of asked) {
    const outcomes = told.get(name) ?? [];
    const heard = outcomes
      .map(({ status, version }) => (version === null ? status : `${status} ${version}`))
      .join(', ');
    const due = dueFor(question, chain);
    const what = `record ${name} (${question.id})`;
    fates.set(name, outcomes.at(-1)?.status.toLowerCase().replaceAll('_', ' ') ?? 'nothing');
    if (outcomes.length === 0) {
      fault(
        `Lost: ${what} has no outcome${due.version === null ? ', and no version has it' : `, though version ${due.version} has it`}.`,
      );
      continue;
    }
    const last = outcomes.at(-1)!;
    if (!due.last.some((status) => status === last.status))
      fault(`Outcomes: ${what} was told to be ${heard}; ${due.because}.`);
    else if (due.version !== null && last.version !== due.version)
      fault(`Outcomes: ${what} was told to be ${heard}; ${due.because}.`);
    // What is no version's may have been settled twice, with another reason: after a reset, say.
    const others = outcomes.filter(
      ({ status, version }) =>
        (status !== last.status || (due.version !== null && version !== due.version)) &&
        !due.before.includes(`${status} ${version}`),
    );
    if (others.length > 0)
      fault(`Outcomes: ${what} was told to be ${heard}, which contradict each other.`);
    if (last.status === 'QUARANTINED' && (last.reason ?? '') === '')
      fault(`Outcomes: ${what} was quarantined without a reason.`);
  }
  checkDuplicates(asked, fates, fault);
  return fates;
}

/** Which outcome the log asks for, with which version, and which may have been told before it. */
function dueFor(
  { kind, id, record }: Asked,
  chain: Chain,
): { last: Outcome['status'][]; version: number | null; before: string[]; because: string } {
  if (kind === 'retraction') {
    const carriedOut = chain.retractions.get(id);
    if (carriedOut !== undefined)
      return {
        last: ['RETRACTED'],
        version: carriedOut.version,
        before: [],
        because: `version ${carriedOut.version} carries it out`,
      };
    return {
      last: ['NOTHING_TO_RETRACT', 'SUPERSEDED', 'QUARANTINED'],
      version: null,
      before: [],
      because: 'no version carries it out',
    };
  }
  const held = chain.corrections.get(id);
  if (held === undefined || held.record !== record)
    return {
      last: ['SUPERSEDED', 'QUARANTINED', 'DUPLICATE'],
      version: null,
      before: [],
      because: 'no version added this record',
    };
  const [before, now] = [
    held.told.slice(0, -1),
    held.told.at(-1)!.split(' ')[0] as Outcome['status'],
  ];
  if (held.removed === null)
    return {
      last: [now],
      version: held.added,
      before,
      because: `version ${held.added} added it and it holds`,
    };
  const { version, because, by } = held.removed;
  return {
    last: [now],
    version,
    before,
    because: `version ${held.added} added it and version ${version} removed it (${because}, ${by})`,
  };
}

function checkDuplicates(
  asked: ReadonlyMap<string, Asked>,
  fates: ReadonlyMap<string, string>,
  fault: (sentence: string) => void,
): void {
  const byId = new Map<string, string[]>();
  for (const { id, record } of asked.values()) byId.set(id, [...(byId.get(id) ?? []), record]);
  for (const [id, records] of byId) {
    const originals = records.filter((record) => fates.get(record) !== 'duplicate');
    if (originals.length !== 1)
      fault(
        `Doubled: of the ${records.length} records of ${id}, ${originals.length} are no duplicates: ${records.map((record) => `${record} ${fates.get(record)}`).join(', ')}.`,
      );
  }
}

function checkLogAgainstRecords(
  chain: Chain,
  asked: ReadonlyMap<string, Asked>,
  fault: (sentence: string) => void,
): void {
  for (const { id, factKey, issuedAt, target, record, added } of chain.corrections.values()) {
    const question = asked.get(record);
    if (
      question === undefined ||
      question.id !== id ||
      question.factKey !== factKey ||
      question.issuedAt !== issuedAt ||
      question.target !== target
    ) {
      fault(
        `Log: version ${added} adds ${id} of record ${record}, and that record says otherwise.`,
      );
    }
  }
  for (const [id, { version, record }] of chain.retractions)
    if (asked.get(record)?.id !== id)
      fault(
        `Log: version ${version} carries out ${id} of record ${record}, and that record says otherwise.`,
      );
}

/** Where several corrections of a subject hold, one may be heard in the prompt of another. */
function checkAnswers(
  { answers }: World,
  asked: ReadonlyMap<string, Asked>,
  chain: Chain,
  fault: (sentence: string) => void,
): void {
  if (answers === null) return;
  const head = chain.entries.length;
  if (answers.version !== head)
    fault(`Answers: serve answers out of version ${answers.version}, and HEAD is ${head}.`);
  const held = [...chain.corrections.values()]
    .filter(({ removed }) => removed === null)
    .flatMap(({ record }) => asked.get(record) ?? []);
  for (const { prompt, text, base } of answers.texts) {
    const ofSubject = held.filter(({ subject }) => prompt.includes(subject!));
    const [one] = ofSubject;
    if (one === undefined) {
      if (text !== base)
        fault(
          `Answers: nothing about "${prompt}" holds, and it is answered with "${text}" where the base model says "${base}".`,
        );
    } else if (
      ofSubject.length === 1 &&
      one.prompt === prompt &&
      !text.trimStart().startsWith(one.target!)
    )
      fault(
        `Answers: ${one.id} holds, and "${prompt}" is answered with "${text}" where "${one.target}" is due.`,
      );
  }
}

function checkVersionsTold(
  { versions }: World,
  chain: Chain,
  fault: (sentence: string) => void,
): void {
  const codec = recordCodec('hook-version');
  const told = new Set<number>();
  for (const record of versions) {
    const version = codec.decode(record.value ?? Buffer.alloc(0));
    told.add(version.version);
    const stored = chain.entries[version.version - 1];
    if (stored === undefined)
      fault(`Versions: version ${version.version} was announced and is not in the log.`);
    else if (
      stored.hash !== version.hash ||
      stored.entry.parent !== version.parent ||
      stored.entry.batchId !== version.batchId
    )
      fault(
        `Versions: version ${version.version} was announced with hash ${version.hash}, and the log has ${stored.hash}.`,
      );
  }
  for (const { entry } of chain.entries)
    if (!told.has(entry.version)) fault(`Versions: version ${entry.version} was never announced.`);
}

/**
 * Of corrections of one time that contradict each other none may hold; a quarantined one leaves
 * open what holds instead, and so does an operator who undid something.
 */
function checkNewestHolds(
  asked: ReadonlyMap<string, Asked>,
  fates: ReadonlyMap<string, string>,
  chain: Chain,
  fault: (sentence: string) => void,
): void {
  const facts = new Map<string, Asked[]>();
  for (const question of asked.values())
    facts.set(question.factKey, [...(facts.get(question.factKey) ?? []), question]);
  const holds = new Map(
    [...chain.corrections.values()]
      .filter(({ removed }) => removed === null)
      .map((held) => [held.factKey, held]),
  );
  for (const [factKey, questions] of facts) {
    if (chain.undone.has(factKey)) continue;
    const latest = Math.max(...questions.map(({ issuedAt }) => issuedAt));
    const newest = questions.filter(({ issuedAt }) => issuedAt === latest);
    const holder = holds.get(factKey);
    const now = holder === undefined ? 'nothing' : holder.id;
    const targets = new Set(newest.map(({ target }) => target));
    const [one] = newest;
    if (targets.size > 1) {
      if (newest.some(({ id }) => id === holder?.id))
        fault(
          `Order: of the fact "${factKey}" ${now} holds, which another correction of the same time contradicts.`,
        );
      if (newest.every(({ record }) => fates.get(record) !== 'quarantined'))
        fault(
          `Order: of the fact "${factKey}" ${newest.map(({ id }) => id).join(' and ')} contradict each other and were not quarantined.`,
        );
    } else if (newest.some(({ record }) => fates.get(record) === 'quarantined')) continue;
    else if (
      one!.kind === 'retraction'
        ? holder !== undefined
        : !newest.some(({ id }) => id === holder?.id)
    ) {
      fault(
        `Order: of the fact "${factKey}" ${now} holds, and ${one!.id} (${newest.map(({ record }) => fates.get(record)).join(', ')}) was issued last.`,
      );
    }
  }
}
