/** Checks of a correction that need no model. */
import { CORRECTION_LIMITS, isInstant, LINEAGE_NAME, type FactCorrection } from './correction.ts';
import { recordCodec } from './records/avro.ts';

/** Returns the faults of a correction, worded for its submitter; empty if it is valid. */
export function faultsOf(correction: FactCorrection): string[] {
  const limits = CORRECTION_LIMITS;
  const { id, subject, prompt, target, source, lineage, issuedAt } = correction;
  const { paraphrases, neighbourhood } = correction;
  const faults = [
    ...textFaults('id', id, limits.idCharactersMax),
    ...textFaults('subject', subject, limits.subjectCharactersMax),
    ...textFaults('prompt', prompt, limits.promptCharactersMax),
    ...textFaults('target', target, limits.targetCharactersMax),
    ...textFaults('source', source, limits.sourceCharactersMax, 'may be empty'),
    ...optionalTextFaults(correction),
  ];
  if (!LINEAGE_NAME.test(lineage))
    faults.push(`lineage "${lineage.slice(0, 120)}" is not of the form ${LINEAGE_NAME.source}`);
  if (subject !== '' && !prompt.includes(subject))
    faults.push('the subject does not occur in the prompt');
  if (paraphrases.length > limits.paraphrasesMax)
    faults.push(`${paraphrases.length} paraphrases, ${atMost(limits.paraphrasesMax)}`);
  if (neighbourhood.length > limits.neighbourhoodMax)
    faults.push(
      `${neighbourhood.length} neighbourhood prompts, ${atMost(limits.neighbourhoodMax)}`,
    );
  for (const [name, prompts] of Object.entries({ paraphrases, neighbourhood }))
    prompts.forEach((text, i) =>
      faults.push(...textFaults(`${name}[${i}]`, text, limits.promptCharactersMax)),
    );
  if (!isInstant(issuedAt)) faults.push('issuedAt is not a count of milliseconds since 1970');
  if (faults.length > 0) return faults;
  const bytes = CODEC.encode(correction).length;
  return bytes > limits.recordBytesMax
    ? [`its record has ${bytes} bytes, ${atMost(limits.recordBytesMax)}`]
    : [];
}

const CODEC = recordCodec('fact-correction');

const atMost = (max: number) => `at most ${max} are allowed`;

function optionalTextFaults({ relation, previousAnswer, replayOf }: FactCorrection): string[] {
  const { relationCharactersMax, targetCharactersMax, replayOfCharactersMax } = CORRECTION_LIMITS;
  const faults: string[] = [];
  if (relation !== null) faults.push(...textFaults('relation', relation, relationCharactersMax));
  if (previousAnswer !== null)
    faults.push(
      ...textFaults('previousAnswer', previousAnswer, targetCharactersMax, 'may be empty'),
    );
  if (replayOf !== undefined)
    faults.push(...textFaults('replayOf', replayOf, replayOfCharactersMax));
  return faults;
}

function textFaults(
  name: string,
  value: string,
  charactersMax: number,
  emptiness?: 'may be empty',
): string[] {
  const faults: string[] = [];
  if (emptiness === undefined && value.trim() === '') faults.push(`${name} is empty`);
  if (value.length > charactersMax)
    faults.push(`${name} has ${value.length} characters, ${atMost(charactersMax)}`);
  if (!value.isWellFormed()) faults.push(`${name} is not well-formed Unicode`);
  return faults;
}
