import path from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import {
  ablate,
  ABLATION_COLUMNS,
  defaultVariants,
  type AblationQuestion,
  type Variant,
} from '../../../bench/study/ablation.ts';
import { KeptPoints } from '../../../bench/kept-points.ts';
import { readStream } from '../../../bench/study/study-records.ts';
import { csvTable, markdownTable, type Column } from '../../../bench/tables.ts';
import { laidOver } from '../../../bench/study/study-run.ts';
import type { HyperParameterOverrides } from '../../../schemas/hyper-parameters.ts';
import { testFolder } from '../../harness/clean-up.ts';
import { FakeEngine } from '../../harness/fake-engine.ts';
import { collected, facts, writeFacts } from './facts.ts';

let folder: string;
beforeEach(() => {
  folder = testFolder();
});

const VARIANTS: Variant[] = [
  { name: 'as configured', parameters: {} },
  { name: 'ridge', parameters: { ridge: 1 } },
];

async function question(opened: HyperParameterOverrides[]): Promise<AblationQuestion> {
  const file = await writeFacts(path.join(folder, 'facts.json'), facts(6));
  return {
    records: await readStream(file, [{ from: 0, to: 6 }]),
    batchSize: 3,
    asking: { sampleMax: 100, earliestMax: 3 },
    circumstancesOf: ({ parameters }) => ({ parameters }),
    withEngine: (work, parameters) => {
      opened.push(parameters);
      return work(new FakeEngine());
    },
  };
}

test('each variant is edited once on its own engine', async () => {
  const opened: HyperParameterOverrides[] = [];
  const asked = await question(opened);
  const keeping = { points: new KeptPoints(folder), edited: () => {} };
  const points = await collected(ablate(VARIANTS, asked, keeping));
  expect(points.map(({ name, efficacy, refused }) => [name, efficacy, refused])).toEqual([
    ['as configured', 1, 0],
    ['ridge', 1, 0],
  ]);
  const more = [...VARIANTS, { name: 'more', parameters: { lambda: 2 } }];
  expect(await collected(ablate(more, asked, keeping))).toHaveLength(3);
  expect(opened).toEqual([{}, { ridge: 1 }, { lambda: 2 }]);
  const [, , row] = markdownTable(ABLATION_COLUMNS, points).split('\n');
  expect(row).toMatch(/^\| as configured +\| 0 +\| 100\.0/);
});

test('built-in variants differ from the current parameters and from one another', async () => {
  const { parameters } = await new FakeEngine().describe();
  const own = { contexts: 5, contextsPerStep: 1, layers: [4, 5, 6], clamp: 4, ridge: 0 };
  const base = { ...parameters, ...own };
  const variants = defaultVariants(base);
  expect(new Set(variants.map(({ name }) => name)).size).toBe(variants.length);
  const merged = variants.map(({ parameters: over }) =>
    JSON.stringify({ ...base, ...over, gate: { ...base.gate, ...over.gate } }),
  );
  expect(new Set(merged).size).toBe(variants.length);
});

test("a gate's numbers are not applied to a gate of another kind", () => {
  const gate = { kind: 'subject', floor: 0.7 } as const;
  const always = { gate: { kind: 'always' } } as const;
  expect(laidOver({ lambda: 3, gate }, always)).toEqual({ lambda: 3, ...always });
  const joint = { gate: { kind: 'subject', map: 'joint' } } as const;
  expect(laidOver({ gate }, joint)).toEqual({ gate: { ...gate, map: 'joint' } });
  expect(laidOver({ ridge: 1 }, { ridge: 2 })).toEqual({ ridge: 2 });
});

test('CSV has full numbers, Markdown formatted ones', () => {
  const rows = [
    { name: 'a, "b"', value: 0.12345 },
    { name: 'c', value: null },
  ];
  const columns: Column<(typeof rows)[number]>[] = [
    ['name', 'name'],
    ['value', (row) => row.value, (value) => value.toFixed(2)],
  ];
  expect(csvTable(columns, rows)).toBe('name,value\r\n"a, ""b""",0.12345\r\nc,\r\n');
  expect(markdownTable(columns, rows)).toBe(
    '| name   | value |\n| ------ | ----- |\n| a, "b" | 0.12  |\n| c      | -     |\n',
  );
});
