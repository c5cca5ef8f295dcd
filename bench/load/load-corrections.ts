/** Thousands of corrections of realistic size (500 bytes), each about its own fact. */
import type { FactCorrection } from '../../schemas/correction.ts';

const PLACES = `
  Lyon Oslo Geneva Nashville Astana Porto Kyoto Denver Arlington Bergen Valencia
  Tampere Dresden Cork Perth Quito
`
  .trim()
  .split(/\s+/);
const SYLLABLES = `
  ash bram cor dun el fair gor hal ing jar kel lor mar nor os pem quil ros
  sten tor ul ver wich yar
`
  .trim()
  .split(/\s+/);

/** Returns the same correction for the same number, with short prompts and a long source. */
function loadCorrection(lineage: string, number: number): FactCorrection {
  const digit = digitsOf(number);
  const subject = `${capital(syllables(2, digit))} ${number}`;
  const place = () => PLACES[digit(PLACES.length)]!;
  const words = (length: number) =>
    Array.from({ length }, () => syllables(1 + digit(3), digit)).join(' ');
  return {
    id: `load-${lineage}-${number}`,
    lineage,
    subject,
    relation: null,
    prompt: `The seat of ${subject} is in`,
    target: place(),
    previousAnswer: place(),
    paraphrases: [`One finds ${subject} in`, `They run ${subject} from`],
    neighbourhood: [`The seat of ${capital(syllables(2, digit))} is in`],
    source: `Register of companies, notice ${digit(1_000_000)}: ${words(42)}.`,
    issuedAt: 1_760_000_000_000 + number,
  };
}

export function loadCorrections(lineage: string, from: number, count: number): FactCorrection[] {
  return Array.from({ length: count }, (_, i) => loadCorrection(lineage, from + i));
}

/** Returns a linear congruential generator of numbers below a given bound. */
function digitsOf(seed: number): (bound: number) => number {
  let state = (seed * 2_654_435_761) >>> 0;
  return (bound) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

function syllables(count: number, digit: (bound: number) => number): string {
  return Array.from({ length: count }, () => SYLLABLES[digit(SYLLABLES.length)]).join('');
}

function capital(text: string): string {
  return text[0]!.toUpperCase() + text.slice(1);
}
