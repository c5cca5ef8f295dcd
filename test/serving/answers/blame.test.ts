import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createEditActivities, createLedgerActivities } from '../../../activities/index.ts';
import type { Engine } from '../../../model/engine/engine.ts';
import { LocalEngine } from '../../../model/engine/local-engine.ts';
import { loadTensorFlow } from '../../../model/tensor/tensorflow.ts';
import type { GateParameters } from '../../../schemas/hyper-parameters.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';
import { Refusal } from '../../../serving/access/refusals.ts';
import { CLIENT_LEFT, type Answers } from '../../../serving/answers/answers.ts';
import { blame } from '../../../serving/answers/blame.ts';
import { lettersOf, occursIn } from '../../../serving/answers/subjects-in-text.ts';
import { ensureHook } from '../../../versions/log/hook-pairs.ts';
import { Versions } from '../../../versions/versions.ts';
import { correction, LINEAGE, retraction } from '../../harness/corrections.ts';
import { runBatch } from '../../harness/test-lineage.ts';
import { FakeEngine } from '../../harness/fake-engine.ts';
import { ADDON, tinyPath, tinyText } from '../../harness/tiny-model.ts';
import { MemoryStore } from '../../harness/memory-store.ts';

type Revisions = Parameters<typeof runBatch>[2];

/** Any verdict passes: what versions say is asked here, not whether it is good. */
const ANYTHING = {
  ...DEFAULT_LINEAGE_SETTINGS.verdict,
  requireEffective: false,
  generalisationMin: 0,
  localityMin: 0,
  retentionMin: 0,
  canaryRatioMax: 1e9,
  editNormMax: 1e9,
};
const TOKENS = 6;

/**
 * A fake whose description names another gate: it opens where a corrected subject stands in the
 * prompt.
 */
class GatedFake extends FakeEngine {
  constructor(private readonly gate: Pick<GateParameters, 'kind' | 'map'>) {
    super();
  }
  override async describe() {
    const description = await super.describe();
    return {
      ...description,
      parameters: {
        ...description.parameters,
        gate: { ...description.parameters.gate, ...this.gate },
      },
    };
  }
}

async function committed(engine: Engine, batches: readonly Revisions[]): Promise<Versions> {
  const versions = new Versions(new MemoryStore());
  const activities = {
    ...createEditActivities({ engine, versions }),
    ...createLedgerActivities({ versions }),
  };
  for (const [i, revisions] of batches.entries()) {
    const { plan, commit } = await runBatch(activities, `batch-${i}`, revisions, ANYTHING);
    if (plan.edits.length + plan.removals.length > 0) await commit();
  }
  return versions;
}

const neverAborted = new AbortController().signal;
const answersFrom = (engine: Engine): Pick<Answers, 'ask'> => ({
  ask: (work) => engine.queue.run(work),
});

const blamed = async (engine: Engine, versions: Versions, prompts: readonly string[]) => {
  const found = await blame(
    { engine, answers: answersFrom(engine), log: versions.log(LINEAGE), served: null },
    { prompts, version: Number.MAX_SAFE_INTEGER, tokensMax: TOKENS, signal: neverAborted },
  );
  if (found instanceof Refusal) throw new Error(`there was no answer: ${found.message}`);
  return found;
};

/** The same by asking every version with the whole of its hook. */
async function everyVersion(
  engine: Engine,
  versions: Versions,
  prompts: readonly string[],
): Promise<{ version: number; text: string }[][]> {
  const log = versions.log(LINEAGE);
  const { head } = await log.read();
  const changes: { version: number; text: string }[][] = prompts.map(() => []);
  for (let version = 0; version <= head.version; version++) {
    const hookId = await ensureHook(engine, log, (await log.at(version)).active.values());
    const answers = await engine.probe(
      hookId,
      prompts.map((prompt) => ({ prompt, greedyTokensMax: TOKENS })),
    );
    answers.forEach(({ answer: text }, i) => {
      if (changes[i]!.at(-1)?.text !== text) changes[i]!.push({ version, text });
    });
  }
  return changes;
}

const answersOf = ({ prompts }: Awaited<ReturnType<typeof blamed>>) =>
  prompts.map(({ answers }) => answers.map(({ version, text }) => ({ version, text })));

const BY_SUBJECT = { kind: 'subject', map: 'subject' } as const;

test('blame names the version, the batch and the correction behind each change', async () => {
  const engine = new GatedFake(BY_SUBJECT);
  const b = correction('b');
  const versions = await committed(engine, [
    [correction('a'), b],
    [correction('c')],
    [correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }), retraction(b)],
  ]);
  const { bySubject, version, prompts } = await blamed(engine, versions, [
    'Subject a is in',
    'Subject b is in',
    'Nobody is in',
  ]);
  expect({ bySubject, version }).toEqual({ bySubject: true, version: 3 });
  expect(prompts[0]).toMatchObject({
    answers: [
      { version: 0, made: null, because: [] },
      {
        version: 1,
        text: ' Lyon',
        made: { batchId: 'batch-0' },
        because: [{ correctionId: 'a', change: 'added' }],
      },
      {
        version: 3,
        text: ' Oslo',
        made: { batchId: 'batch-2' },
        because: [
          { correctionId: 'a', change: 'superseded', by: 'a2' },
          { correctionId: 'a2', change: 'added' },
        ],
      },
    ],
    asked: 3,
  });
  expect(
    prompts[1]!.answers.map((one) => [one.version, one.because.map(({ change }) => change)]),
  ).toEqual([
    [0, []],
    [1, ['added']],
    [3, ['retracted']],
  ]);
  expect(prompts[2]).toMatchObject({ answers: [{ version: 0 }], asked: 1 });
});

test('blame finds what asking every version finds, in any order of facts', async () => {
  const names = ['Ada', 'Ada Lane', 'Lane', 'Bo', 'Bob'];
  const change = fc.record({
    name: fc.constantFrom(...names),
    target: fc.constantFrom('Lyon', 'Oslo', 'Rome'),
    retract: fc.boolean(),
  });
  const asked = names.flatMap((name) => [
    `${name} is in`,
    `The place of ${name} is`,
    `Where are ${name} and Bo?`,
  ]);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(change, { minLength: 1, maxLength: 3 }), { maxLength: 6 }),
      async (batches) => {
        let time = 0;
        const revisions = batches.map((batch) =>
          [...new Map(batch.map((one) => [one.name, one])).values()].map(
            ({ name, target, retract }) => {
              const made = correction(`c${++time}`, {
                subject: name,
                target,
                issuedAt: time,
                paraphrases: [],
                neighbourhood: [],
              });
              return retract ? retraction(made, time) : made;
            },
          ),
        );
        const engine = new GatedFake(BY_SUBJECT);
        const versions = await committed(engine, revisions);
        expect(answersOf(await blamed(engine, versions, asked))).toEqual(
          await everyVersion(engine, versions, asked),
        );
      },
    ),
    { numRuns: 60 },
  );
});

test('blame asks every version where the gate does not depend on names', async () => {
  const engine = new GatedFake({ kind: 'sequence', map: 'joint' });
  const versions = await committed(engine, [[correction('a')], [correction('b')]]);
  expect(await blamed(engine, versions, ['Nobody is in'])).toMatchObject({
    bySubject: false,
    prompts: [{ asked: 3 }],
  });
});

test('blame ends when the client has left', async () => {
  const engine = new GatedFake(BY_SUBJECT);
  const versions = await committed(engine, [[correction('a')]]);
  const client = new AbortController();
  const probe = engine.probe.bind(engine);
  engine.calls.length = 0;
  engine.probe = (...parameters) => {
    client.abort();
    return probe(...parameters);
  };
  expect(
    await blame(
      { engine, answers: answersFrom(engine), log: versions.log(LINEAGE), served: null },
      { prompts: ['Subject a is in'], version: 1, tokensMax: 4, signal: client.signal },
    ),
  ).toBe(CLIENT_LEFT);
  expect(engine.calls.filter((call) => call === 'probe')).toHaveLength(1);
});

let folder: string;
beforeAll(async () => {
  loadTensorFlow(ADDON);
  folder = await mkdtemp(path.join(tmpdir(), 'errata-blame-'));
  await writeFile(path.join(folder, 'ordinary.txt'), tinyText(9_000, 1));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test('blame of a real model finds what asking every version finds', async () => {
  const engine = await LocalEngine.open({
    addonPath: ADDON,
    modelPath: tinyPath('llama'),
    statisticsFolder: path.join(folder, 'statistics'),
    textFile: path.join(folder, 'ordinary.txt'),
    parameters: {
      layers: [1, 2],
      contexts: 3,
      contextsPerStep: 3,
      stepsMax: 12,
      learningRate: 0.5,
      lambda: 4,
    },
  });
  try {
    expect((await engine.describe()).parameters.gate).toMatchObject(BY_SUBJECT);
    const about = (id: string, subject: string, rest: string, target: string) =>
      correction(id, {
        subject,
        prompt: `${rest} ${subject} is`,
        target,
        issuedAt: /\d$/.test(id) ? 2_000 : 1_000,
        paraphrases: [],
        neighbourhood: [],
      });
    const tom = about('tom', 'tom', 'the mother tongue of', 'greek');
    const versions = await committed(engine, [
      [tom, about('country', 'the old country', 'the capital of', 'rome')],
      [
        about('anna', 'anna', 'the piano of', 'berlin'),
        about('company', 'the company', 'the headquarters of', 'london'),
      ],
      [
        about('tom2', 'tom', 'the mother tongue of', 'english'),
        about('tom3', 'tom', 'the river of', 'rome'),
      ],
      [about('rome', 'rome', 'the book of', 'anna')],
      [retraction(tom, 3_000)],
    ]);
    const prompts = [
      'the mother tongue of tom is',
      'the capital of the old country is',
      'tom works in',
      'anna and tom speaks',
      'the headquarters of the company is in',
      'the town of rome is',
      'her author was',
      'the capital of the old country and tom is',
      'the river of tom is',
    ];
    const found = await blamed(engine, versions, prompts);
    expect(answersOf(found)).toEqual(await everyVersion(engine, versions, prompts));
    expect(found.bySubject).toBe(true);
    expect(found.prompts.filter(({ answers }) => answers.length > 1).length).toBeGreaterThan(2);
    // It asks less often than asking every version would.
    expect(found.prompts.reduce((sum, { asked }) => sum + asked, 0)).toBeLessThan(
      prompts.length * (found.version + 1),
    );
  } finally {
    await engine.close();
  }
}, 120_000);

test('a subject is found in a text by its letters, and by its whole words', () => {
  expect(lettersOf('The  Café-Müller, 2')).toBe('thecafemuller2');
  expect(occursIn('tom', 'the mother tongue of tom is')).toBe(true);
  expect(occursIn('tom', 'atoms are')).toBe(false);
  expect(occursIn(' New  York ', 'in New York.')).toBe(true);
});
