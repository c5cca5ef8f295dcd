/** Corrections by the thousand, each of a fact of its own, as large as those that people write (some 500 bytes of Avro). */
import type { FactCorrection } from '../../schemas/correction.ts';

const PLACES = ['Lyon', 'Oslo', 'Geneva', 'Nashville', 'Astana', 'Porto', 'Kyoto', 'Denver', 'Arlington', 'Bergen', 'Valencia', 'Tampere', 'Dresden', 'Cork', 'Perth', 'Quito'];
const SYLLABLES = ['ash', 'bram', 'cor', 'dun', 'el', 'fair', 'gor', 'hal', 'ing', 'jar', 'kel', 'lor', 'mar', 'nor', 'os', 'pem', 'quil', 'ros', 'sten', 'tor', 'ul', 'ver', 'wich', 'yar'];
const KINDS = ['Holdings', 'Shipping', 'Mills', 'Instruments', 'Press', 'Foods', 'Works', 'Bank'];

/** The same number always gives the same correction. */
export function loadCorrection(lineage: string, number: number): FactCorrection {
  const digit = digitsOf(number);
  const subject = `${capital(word(digit))} ${capital(word(digit))} ${number} ${KINDS[digit(KINDS.length)]}`;
  const place = () => PLACES[digit(PLACES.length)]!;
  const neighbour = () => `${capital(word(digit))} ${KINDS[digit(KINDS.length)]}`;
  return {
    id: `load-${lineage}-${number}`,
    lineage,
    subject,
    relation: null,
    prompt: `The headquarters of ${subject} are in the city of`,
    target: place(),
    previousAnswer: place(),
    paraphrases: [`The main office of ${subject} is found in the city of`, `The company ${subject} is run from offices in the city of`],
    neighbourhood: [`The headquarters of ${neighbour()} are in the city of`, `The headquarters of ${neighbour()} are in the city of`],
    source: `register of companies, notice ${digit(1_000_000)} of ${word(digit)}`,
    issuedAt: 1_760_000_000_000 + number,
  };
}

export function loadCorrections(lineage: string, from: number, count: number): FactCorrection[] {
  return Array.from({ length: count }, (_, i) => loadCorrection(lineage, from + i));
}

/** Numbers below a bound that look drawn: a linear congruential generator from the seed. */
function digitsOf(seed: number): (bound: number) => number {
  let state = (seed * 2_654_435_761) >>> 0;
  return (bound) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

function word(digit: (bound: number) => number): string {
  return `${SYLLABLES[digit(SYLLABLES.length)]}${SYLLABLES[digit(SYLLABLES.length)]}${SYLLABLES[digit(SYLLABLES.length)]}`;
}

function capital(text: string): string {
  return text[0]!.toUpperCase() + text.slice(1);
}
