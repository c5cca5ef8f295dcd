import { describe, expect, it } from 'vitest';
import { boundedJson, UnsoundJson } from '../../../schemas/encoding/bounded-json.ts';
import { always, damaged, faultOf, nestedJson, oddJson } from '../../harness/odd-inputs.ts';

const LIMITS = { valuesMax: 1_000, depthMax: 20 };
const reasonOf = async (text: Uint8Array | string, limits = LIMITS) =>
  ((await faultOf(() => boundedJson(text, limits))) as UnsoundJson | undefined)?.reason;

describe('JSON within its bounds', () => {
  it('is what JSON.parse returns, from text and from bytes', async () => {
    await always(300, oddJson, (value) => {
      const text = JSON.stringify(value);
      const bounded = { valuesMax: valuesIn(JSON.parse(text)), depthMax: 20 };
      expect(boundedJson(text, bounded)).toEqual(JSON.parse(text));
      expect(boundedJson(Buffer.from(`\uFEFF ${text}\n`), bounded)).toEqual(
        JSON.parse(Buffer.from(text).toString()),
      );
    });
  });

  it('is refused with UnsoundJson if it is damaged', async () => {
    const sound = oddJson.map((value) => new Uint8Array(Buffer.from(JSON.stringify(value))));
    await always(500, damaged(sound), async (bytes) => {
      const fault = await faultOf(() => boundedJson(bytes, LIMITS));
      if (fault !== undefined) expect(fault).toBeInstanceOf(UnsoundJson);
    });
  });
});

describe('JSON past its bounds', () => {
  it('is refused for its depth; brackets in texts do not count', async () => {
    expect(boundedJson(nestedJson(20), LIMITS)).toBeDefined();
    expect(await reasonOf(nestedJson(21))).toBe('it is nested deeper than 20 levels');
    expect(await reasonOf(nestedJson(1_000_000, 'object'))).toBe(
      'it is nested deeper than 20 levels',
    );
    expect(boundedJson(JSON.stringify(`"\\${'['.repeat(100)}`), LIMITS)).toBeDefined();
  });

  it('is refused for its values; commas in texts do not count', async () => {
    // The array is a value as well.
    expect(boundedJson(`[${'1,'.repeat(997)}1]`, LIMITS)).toHaveLength(998);
    expect(await reasonOf(`[${'1,'.repeat(1_000)}1]`)).toBe('it holds more than 1000 values');
    expect(boundedJson(JSON.stringify(`\\",${','.repeat(5_000)}`), LIMITS)).toBeDefined();
  });

  it('is distinguished from invalid UTF-8 and JSON, without quoting the text', async () => {
    expect(await reasonOf(Uint8Array.of(0x22, 0xff, 0x22))).toBe('it is not UTF-8');
    for (const text of [
      'hunter2',
      '{"apiKey": hunter2}',
      '{"apiKey": "hunter2" "x"}',
      '{"apiKey":"hunter2',
      `{"a":"${'x'.repeat(200)}", hunter2}`,
    ]) {
      expect(await reasonOf(text)).toMatch(/^it is not JSON \(/);
      expect(await reasonOf(text)).not.toMatch(/hunter|apiKey|xxx/);
    }
  });
});

/** As the product counts: an opening bracket counts a value even if nothing follows. */
function valuesIn(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 1;
  const parts = Object.values(value);
  return (
    1 +
    Math.max(
      1,
      parts.reduce((sum: number, part) => sum + valuesIn(part), 0),
    )
  );
}
