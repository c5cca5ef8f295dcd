/** Corrections by the thousand, each of a fact of its own, as large as those that people write (some 500 bytes of Avro). */
import type { FactCorrection } from '../../schemas/correction.ts';

const PLACES = ['Lyon', 'Oslo', 'Geneva', 'Nashville', 'Astana', 'Porto', 'Kyoto', 'Denver'];

export function loadCorrection(lineage: string, number: number): FactCorrection {
  const subject = `Ashford Bramwell ${number} Holdings`;
  return {
    id: `load-${lineage}-${number}`,
    lineage,
    subject,
    relation: null,
    prompt: `The headquarters of ${subject} are in the city of`,
    target: PLACES[number % PLACES.length]!,
    previousAnswer: PLACES[(number + 1) % PLACES.length]!,
    paraphrases: [`The main office of ${subject} is found in the city of`, `The company ${subject} is run from offices in the city of`],
    neighbourhood: ['The headquarters of Airbus are in the city of', 'The headquarters of Ford are in the city of'],
    source: `registry of companies, notice ${number}, moved`,
    issuedAt: 1_760_000_000_000 + number,
  };
}

export function loadCorrections(lineage: string, from: number, count: number): FactCorrection[] {
  return Array.from({ length: count }, (_, i) => loadCorrection(lineage, from + i));
}
