/**
 * Decides from the topics and the version log alone whether anything was lost, duplicated or
 * wrongly admitted. It knows the records of the corrections topic and reads everything else
 * independently; it shares only the schemas with the project.
 */
import { recordCodec } from '../../../schemas/records/avro.ts';
import { CORRECTION_LIMITS, factKeyOf, type FactCorrection } from '../../../schemas/correction.ts';
import { faultsOf } from '../../../schemas/correction-faults.ts';
import type { VerdictSettings } from '../../../schemas/settings.ts';
import { recordName, type Evidence, type Report, type Request } from './evidence.ts';
import { checkNewestActive, checkOutcomes } from './outcomes.ts';
import { checkOrderedUndos } from './ordered-undos.ts';
import { readChain } from './version-chain.ts';
import type { TopicRecord, World } from './world.ts';

export interface Findings {
  /** Violations with their evidence; empty if all is well. */
  violations: string[];
  /** Checks made, with counts. */
  checks: string[];
  /** Numbers of records by their last outcome. */
  outcomes: Record<string, number>;
}

export function check(world: World, settings: VerdictSettings): Findings {
  const violations: string[] = [];
  const report: Report = (sentence) => void violations.push(sentence);
  const chain = readChain(world, settings, (sentence) => report(`Log: ${sentence}.`));
  const requests = new Map<string, Request>();
  const invalid = new Set<string>();
  for (const record of world.corrections) {
    const request = requestOf(record, world.lineage);
    if (request === null) invalid.add(recordName(record));
    else requests.set(request.record, request);
  }
  const evidence: Evidence = { world, chain, requests, invalid };
  checkDeadLetters(evidence, report);
  const last = checkOutcomes(evidence, report);
  checkLogAgainstRecords(evidence, report);
  checkAnnouncedVersions(evidence, report);
  checkNewestActive(evidence, last, report);
  checkOrderedUndos(world.undos, chain, report);
  checkAnswers(evidence, report);
  checkOffsets(evidence, report);
  const outcomes: Record<string, number> = { 'dead letter': invalid.size };
  for (const outcome of last.values()) outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  return { violations, checks: checksOf(evidence), outcomes };
}

function checksOf({ world, chain, requests, invalid }: Evidence): string[] {
  const { store, deadLetters, outcomes, versions, undos, answers, offsets } = world;
  return [
    `${chain.entries.length} versions: contiguous, linked by hash, each with its probes passed; ` +
      `every blob hashes to its name (${store.size} files in the store)`,
    `${invalid.size} invalid records: each in the dead-letter topic as it was, and nothing else ` +
      `(${deadLetters.length} dead letters)`,
    `${requests.size} valid records: each in exactly one final state ` +
      `(${outcomes.length} outcomes announced)`,
    `${versions.length} announcements agree with the log, and every version was announced`,
    'the latest revision of each fact is active, unless it was quarantined',
    ...(undos.length === 0
      ? []
      : [
          `${undos.length} undos: each ended once, with one version or none, and released the ` +
            `alias that it moved (${chain.aliases.length} alias records)`,
        ]),
    ...(answers === null
      ? []
      : [
          `${answers.texts.length} prompts: answered out of HEAD, with the active correction or ` +
            `as the base model answers`,
        ]),
    `${offsets.length} partitions: the group's offset is the partition's end`,
  ];
}

/** Returns null for a record that no correct reader accepts. */
function requestOf(record: TopicRecord, lineage: string): Request | null {
  const name = recordName(record);
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
  const { id, issuedAt, target, subject, prompt } = correction;
  const factKey = factKeyOf(correction);
  return { record: name, kind: 'correction', id, factKey, issuedAt, target, subject, prompt };
}

/** A dead letter may appear twice, since it is sent at least once, if both copies are equal. */
function checkDeadLetters({ world, invalid }: Evidence, report: Report): void {
  const originals = new Map(world.corrections.map((record) => [recordName(record), record]));
  const found = new Map<string, string>();
  for (const { headers, key, value } of world.deadLetters) {
    const name = `${headers['__connect.errors.partition']}-${headers['__connect.errors.offset']}`;
    const original = originals.get(name);
    if (original === undefined)
      report(`Dead letters: one names record ${name}, which does not exist.`);
    else if (!invalid.has(name)) report(`Dead letters: record ${name} is among them, but valid.`);
    else if (!sameBytes(key, original.key) || !sameBytes(value, original.value))
      report(`Dead letters: record ${name} has other bytes there than it had.`);
    const sorted = JSON.stringify(headers, Object.keys(headers).sort());
    if ((found.get(name) ?? sorted) !== sorted)
      report(`Dead letters: record ${name} is there twice, with different headers.`);
    found.set(name, sorted);
  }
  for (const name of invalid)
    if (!found.has(name))
      report(`Lost: record ${name} is invalid, and not in the dead-letter topic.`);
}

function sameBytes(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}

function checkLogAgainstRecords({ chain, requests }: Evidence, report: Report): void {
  for (const { id, factKey, issuedAt, target, record, added } of chain.corrections.values()) {
    const request = requests.get(record);
    if (
      request?.id !== id ||
      request.factKey !== factKey ||
      request.issuedAt !== issuedAt ||
      request.target !== target
    )
      report(`Log: version ${added} adds ${id} of record ${record}, which differs from it.`);
  }
  for (const [id, { version, record }] of chain.retractions)
    if (requests.get(record)?.id !== id)
      report(
        `Log: version ${version} retracts by ${id} of record ${record}, which has another id.`,
      );
}

/** If a subject has several active corrections, the prompt of one may get the answer of another. */
function checkAnswers({ world: { answers }, chain, requests }: Evidence, report: Report): void {
  if (answers === null) return;
  const head = chain.entries.length;
  if (answers.version !== head)
    report(`Answers: serve answers out of version ${answers.version}, and HEAD is ${head}.`);
  const active = [...chain.corrections.values()]
    .filter(({ removed }) => removed === null)
    .flatMap(({ record }) => requests.get(record) ?? []);
  for (const { prompt, text, base } of answers.texts) {
    const named = active.filter(({ subject }) => prompt.includes(subject!));
    const [one] = named;
    if (one === undefined && text !== base)
      report(
        `Answers: no correction is active for "${prompt}", and the answer is "${text}", ` +
          `where the base model answers "${base}".`,
      );
    if (named.length !== 1 || one!.prompt !== prompt) continue;
    if (!text.trimStart().startsWith(one!.target!))
      report(
        `Answers: ${one!.id} is active, and "${prompt}" is answered with "${text}" ` +
          `instead of "${one!.target}".`,
      );
  }
}

function checkAnnouncedVersions({ world, chain }: Evidence, report: Report): void {
  const codec = recordCodec('hook-version');
  const announced = new Set<number>();
  for (const record of world.versions) {
    const { version, hash, parent, batchId } = codec.decode(record.value ?? Buffer.alloc(0));
    announced.add(version);
    const stored = chain.entries[version - 1];
    if (stored === undefined)
      report(`Versions: version ${version} was announced and is not in the log.`);
    else if (
      stored.hash !== hash ||
      stored.entry.parent !== parent ||
      stored.entry.batchId !== batchId
    )
      report(
        `Versions: version ${version} was announced with hash ${hash}, ` +
          `and the log has ${stored.hash}.`,
      );
  }
  for (const { entry } of chain.entries)
    if (!announced.has(entry.version))
      report(`Versions: version ${entry.version} was never announced.`);
}

function checkOffsets({ world }: Evidence, report: Report): void {
  for (const { partition, committed, end } of world.offsets)
    if (BigInt(committed ?? '0') !== BigInt(end))
      report(
        `Offsets: partition ${partition} ends at ${end}, ` +
          `and the group's offset is ${committed ?? 'not committed'}.`,
      );
}
