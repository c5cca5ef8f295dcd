/** The facts that `errata tune` edits: a file in CounterFact's form, or the demonstration's own. */
import { readFileSync } from 'node:fs';
import type { FactRecord } from '../../operations/tune/fact-records.ts';
import { factKeyOf } from '../../schemas/correction.ts';
import { readCorrections } from './correction-input.ts';

/** The demonstration's facts that name what the model says so far. */
export function demonstrationFacts(): FactRecord[] {
  const text = readFileSync(new URL('../demonstration/facts.ndjson', import.meta.url), 'utf8');
  const { corrections } = readCorrections(text, 'ndjson', {
    lineage: 'tune',
    source: 'demonstration',
    now: 0,
  });
  return corrections.flatMap(({ correction }, i) =>
    correction.previousAnswer === null
      ? []
      : [
          {
            prompt: correction.prompt,
            target: correction.target,
            old: correction.previousAnswer,
            paraphrases: correction.paraphrases,
            neighbours: correction.neighbourhood,
            revision: {
              kind: 'correction',
              factKey: factKeyOf(correction),
              position: { topic: 'tune', partition: 0, offset: String(i) },
              correction,
            },
          },
        ],
  );
}
