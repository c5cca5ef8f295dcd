/** Compares two lineages version by version, bit for bit and within a tolerance. */
import type { CorrectionProbe, ProbeScores } from '../../schemas/editing.ts';
import { messageOf } from '../../schemas/failures.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import { canonicalJson } from '../../versions/log/canonical-json.ts';
import { hookIdOf, readBlob } from '../../versions/log/hook-pairs.ts';
import { decodePairs, type StoredPairs } from '../../versions/log/pairs.ts';
import { type VersionLog } from '../../versions/log/version-log.ts';
import { sha256 } from '../../versions/log/object-names.ts';

export type Agreement = 'identical' | 'within-tolerance' | 'different';

/**
 * Another machine or another number of threads rounds sums differently. Pairs then differ by some
 * 1e-4 of their largest number, and log-probabilities by less than this many nats.
 */
export const TOLERANCE = { pairs: 1e-3, logProbability: 1e-2, measured: 1e-3 } as const;

export interface VersionComparison {
  version: number;
  /** Agreement of its additions, removals and retractions. */
  changes: 'identical' | 'different';
  pairs: Agreement | 'none';
  /** The largest difference of two numbers over the largest number of their matrix. */
  pairsDifference: number | null;
  probes: Agreement;
  scores: Agreement;
  /** Descriptions of the differences. */
  notes: string[];
}

export interface LineageReproduction {
  source: string;
  rebuilt: string;
  /** Number of versions that both have. */
  versions: number;
  /** Number of versions of the source to be rebuilt. */
  due: number;
  identical: number;
  within: number;
  different: number;
  largestPairsDifference: number;
  /** The first `COMPARISONS_KEPT_MAX` versions that are not identical. */
  comparisons: VersionComparison[];
  head: { sameCorrections: boolean; sameHook: boolean; hooks: [string | null, string | null] };
  reproduces: 'bit-for-bit' | 'within-tolerance' | 'no';
}

const COMPARISONS_KEPT_MAX = 1_000;

export async function compareVersions(
  source: VersionLog,
  rebuilt: VersionLog,
  due: number,
  progress: (versions: number) => void = () => {},
): Promise<LineageReproduction> {
  const versions = Math.min(due, (await rebuilt.read()).head.version);
  const counts = { identical: 0, 'within-tolerance': 0, different: 0 };
  const comparisons: VersionComparison[] = [];
  let largest = 0;
  for (let version = 1; version <= versions; version++) {
    const comparison = await compareVersion(source, rebuilt, version);
    const agreement = worst([
      comparison.changes,
      comparison.pairs === 'none' ? 'identical' : comparison.pairs,
      comparison.probes,
      comparison.scores,
    ]);
    counts[agreement]++;
    largest = Math.max(largest, comparison.pairsDifference ?? 0);
    if (agreement !== 'identical' && comparisons.length < COMPARISONS_KEPT_MAX)
      comparisons.push(comparison);
    progress(version);
  }
  const [one, other] = await Promise.all([source.at(versions), rebuilt.at(versions)]);
  const hooks: [string | null, string | null] = [
    hookIdOf([...one.active.values()]),
    hookIdOf([...other.active.values()]),
  ];
  const sameHook = hooks[0] === hooks[1];
  const sameCorrections = [...one.active.keys()].join('\n') === [...other.active.keys()].join('\n');
  const whole = versions === due && sameCorrections && counts.different === 0;
  const exact = counts['within-tolerance'] === 0 && sameHook;
  return {
    source: source.lineage,
    rebuilt: rebuilt.lineage,
    versions,
    due,
    identical: counts.identical,
    within: counts['within-tolerance'],
    different: counts.different,
    largestPairsDifference: largest,
    comparisons,
    head: { sameCorrections, sameHook, hooks },
    reproduces: !whole ? 'no' : exact ? 'bit-for-bit' : 'within-tolerance',
  };
}

interface Side {
  log: VersionLog;
  entry: VersionEntry;
}

async function compareVersion(
  source: VersionLog,
  rebuilt: VersionLog,
  version: number,
): Promise<VersionComparison> {
  const [{ entry: one }, { entry: other }] = await Promise.all([
    source.entry(version),
    rebuilt.entry(version),
  ]);
  const notes: string[] = [];
  const changes = changesOf(one) === changesOf(other) ? 'identical' : 'different';
  if (changes === 'different') notes.push(...changeNotes(one, other));
  const sides: [Side, Side] = [
    { log: source, entry: one },
    { log: rebuilt, entry: other },
  ];
  const pairs = await comparePairs(sides, notes);
  const probes = await compareProbes(sides, notes);
  const scores = compareScores(one, other, notes);
  return { version, changes, ...pairs, probes, scores, notes };
}

function changesOf({ added, removed, retractions }: VersionEntry): string {
  return sha256(canonicalJson({ added, removed, retractions }));
}

function changeNotes(one: VersionEntry, other: VersionEntry): string[] {
  const hashOf = (added: VersionEntry['added'][number]): string => sha256(canonicalJson(added));
  const byId = new Map(other.added.map((added) => [added.correctionId, hashOf(added)]));
  const differing = one.added
    .filter((added) => byId.get(added.correctionId) !== hashOf(added))
    .map(({ correctionId: id }) => `"${id}" ${byId.has(id) ? 'has another text' : 'is missing'}`);
  return differing.length > 0 ? differing : ['it removes or retracts something else'];
}

async function comparePairs(
  sides: [Side, Side],
  notes: string[],
): Promise<Pick<VersionComparison, 'pairs' | 'pairsDifference'>> {
  const [one, other] = sides.map(({ entry }) => entry.pairs?.sha256);
  if (one === other)
    return { pairs: one === undefined ? 'none' : 'identical', pairsDifference: null };
  const [a, b] = await readBoth(sides, notes, async ({ log, entry: { pairs } }) =>
    pairs === null ? null : await readBlob(log, pairs, decodePairs),
  );
  if (!a || !b) return { pairs: 'different', pairsDifference: null };
  const difference = differenceOf(a, b);
  if (difference === null)
    notes.push('its pairs have another form: other blocks, widths, rows or spellings');
  const within = difference !== null && difference <= TOLERANCE.pairs;
  return { pairs: within ? 'within-tolerance' : 'different', pairsDifference: difference };
}

/** Reads data of both sides; null, with a note, if it cannot be read. */
async function readBoth<Value>(
  sides: [Side, Side],
  notes: string[],
  read: (side: Side) => Promise<Value>,
): Promise<(Value | null)[]> {
  return await Promise.all(
    sides.map((side) =>
      read(side).catch((fault: unknown) => {
        notes.push(messageOf(fault));
        return null;
      }),
    ),
  );
}

function differenceOf(a: StoredPairs, b: StoredPairs): number | null {
  const form = ({ keys: _keys, changes: _changes, ...rest }: StoredPairs): string =>
    canonicalJson(rest).toString();
  if (form(a) !== form(b)) return null;
  const matrices = [
    ...a.keys.map((one, i) => [one, b.keys[i]!] as const),
    ...a.changes.map((one, i) => [one, b.changes[i]!] as const),
  ];
  return matrices.reduce((most, [one, other]) => Math.max(most, relativeDifference(one, other)), 0);
}

function relativeDifference(one: Float32Array, other: Float32Array): number {
  let [largest, difference] = [0, 0];
  for (let i = 0; i < one.length; i++) {
    largest = Math.max(largest, Math.abs(one[i]!));
    difference = Math.max(difference, Math.abs(one[i]! - other[i]!));
  }
  return difference === 0 ? 0 : difference / Math.max(largest, Number.MIN_VALUE);
}

async function compareProbes(sides: [Side, Side], notes: string[]): Promise<Agreement> {
  const [one, other] = [sides[0].entry, sides[1].entry];
  if (one.probes.details.sha256 === other.probes.details.sha256) return 'identical';
  const [a, b] = await readBoth(sides, notes, async ({ log, entry: { probes } }) => {
    const text = new TextDecoder().decode(await log.blobs.get(probes.details));
    return JSON.parse(text) as CorrectionProbe[];
  });
  if (!a || !b) return 'different';
  const answers = (probes: CorrectionProbe[]): string =>
    JSON.stringify(probes.map(({ targetLogProbability: _, ...rest }) => rest));
  const apart = Math.max(
    0,
    ...a.map(({ targetLogProbability }, i) =>
      Math.abs(targetLogProbability - (b[i]?.targetLogProbability ?? Number.NEGATIVE_INFINITY)),
    ),
  );
  if (answers(a) === answers(b) && apart <= TOLERANCE.logProbability) return 'within-tolerance';
  const changed = a
    .filter((probe, i) => b[i]?.answerAfter !== probe.answerAfter)
    .map(({ id }) => `"${id}"`);
  const named = changed.slice(0, NAMED_MAX).join(', ');
  const more = changed.length > NAMED_MAX ? ` and ${changed.length - NAMED_MAX} more` : '';
  notes.push(
    changed.length > 0 ? `other answers to ${named}${more}` : 'its probes have other results',
  );
  return 'different';
}

const NAMED_MAX = 5;

/** Leaves out retention, whose sample size is a setting that may have changed. */
function compareScores(one: VersionEntry, other: VersionEntry, notes: string[]): Agreement {
  const sides = (['before', 'after'] as const).map((side): Agreement => {
    const [a, b] = [one.probes[side], other.probes[side]];
    const shares = ({ efficacy, efficacyGreedy, generalisation, locality }: ProbeScores): string =>
      JSON.stringify([efficacy, efficacyGreedy, generalisation, locality]);
    return shares(a) === shares(b)
      ? worst([numbersAgree(a.canaryRatio, b.canaryRatio), numbersAgree(a.editNorm, b.editNorm)])
      : 'different';
  });
  const layers =
    one.layers.length === other.layers.length
      ? one.layers.map((layer, i) =>
          worst([
            layer.layer === other.layers[i]!.layer ? 'identical' : 'different',
            numbersAgree(layer.editNorm, other.layers[i]!.editNorm),
            numbersAgree(layer.threshold, other.layers[i]!.threshold),
          ]),
        )
      : (['different'] as const);
  const agreement = worst([...sides, ...layers]);
  if (agreement === 'different') notes.push('its scores, norms or thresholds differ');
  return agreement;
}

function numbersAgree(a: number, b: number): Agreement {
  if (a === b) return 'identical';
  return Math.abs(a - b) <= TOLERANCE.measured * Math.max(Math.abs(a), Math.abs(b))
    ? 'within-tolerance'
    : 'different';
}

function worst(agreements: readonly Agreement[]): Agreement {
  if (agreements.includes('different')) return 'different';
  return agreements.includes('within-tolerance') ? 'within-tolerance' : 'identical';
}
