/**
 * How often a gate opens on ordinary text, measured alike for every kind of gate: whole sequences
 * are read, and the openings that the engine reports are counted. (The canary counts them from keys
 * alone, which says nothing about the `sequence` gate.)
 */
import type { Engine } from '../../model/engine/engine.ts';

export interface TextSizes {
  sequences: number;
  tokensPerSequence: number;
  seed: number;
}

/** Sequences that the base model generates; the same for the same seed. */
export async function ordinaryTexts(
  engine: Engine,
  { sequences, tokensPerSequence, seed }: TextSizes,
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

export type OrdinaryOpenings = Awaited<ReturnType<typeof openingsOn>>;

/** Counts openings of a held hook; null is the base model, on which nothing opens. */
export async function openingsOn(engine: Engine, hookId: string | null, texts: readonly string[]) {
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
  return {
    /** Not counting the first of each sequence, on which no gate opens. */
    tokens,
    /** Share of them that open a gate, at the edited block with the largest share. */
    openShare: tokens === 0 ? 0 : Math.max(0, ...byLayer.values()) / tokens,
  };
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
