/**
 * How often a gate opens on ordinary text, asked of every kind of gate in the same way: whole
 * sequences are read and the openings that the engine reports of them counted. (The canary counts
 * them from keys alone, which the `sequence` gate cannot be judged by.)
 */
import type { Engine } from '../../model/engine/engine.ts';

/**
 * Sequences of ordinary text: what the base model goes on to say by itself. The same for the same
 * seed.
 */
export async function ordinaryTexts(
  engine: Engine,
  {
    sequences,
    tokensPerSequence,
    seed,
  }: { sequences: number; tokensPerSequence: number; seed: number },
): Promise<string[]> {
  const texts: string[] = [];
  for (let i = 0; i < sequences; i++) {
    const opening = OPENINGS[i % OPENINGS.length]!;
    const { text } = await engine.generate(null, opening, {
      tokensMax: tokensPerSequence,
      temperature: 0.8,
      topP: 0.95,
      seed: seed + i,
    });
    texts.push(opening + text);
  }
  return texts;
}

export interface OrdinaryOpenings {
  /** Without the first of each sequence, on which no gate opens. */
  tokens: number;
  /** Share of them that open a gate, at the edited block where most do. */
  openShare: number;
}

/** The hook must be held; null is the base model, on which nothing opens. */
export async function openingsOn(
  engine: Engine,
  hookId: string | null,
  texts: readonly string[],
): Promise<OrdinaryOpenings> {
  const byLayer = new Map<number, number>();
  let tokens = 0;
  for (const text of texts) {
    const { promptTokens, opened } = await engine.generate(hookId, text, {
      tokensMax: 1,
      temperature: 0,
    });
    tokens += promptTokens - 1;
    for (const { position, layer } of opened) {
      if (position > 0 && position < promptTokens)
        byLayer.set(layer, (byLayer.get(layer) ?? 0) + 1);
    }
  }
  return { tokens, openShare: tokens === 0 ? 0 : Math.max(0, ...byLayer.values()) / tokens };
}

const OPENINGS = [
  'The weather',
  'In the morning',
  'A good way to',
  'She opened the',
  'Many people think',
  'The history of',
  'To make bread',
  'Last year the',
];
