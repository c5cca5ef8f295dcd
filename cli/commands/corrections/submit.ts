import { factKeyOf, type FactCorrection } from '../../../schemas/correction.ts';
import {
  correctionFrom,
  formatOf,
  INPUT_LIMITS,
  readCorrections,
} from '../../input/correction-input.ts';
import { oneOf } from '../../input/option-values.ts';
import { faultsText, readText } from '../../input/read-input.ts';
import type { Clients } from '../../session/clients.ts';
import {
  command,
  EXIT,
  flag,
  LINEAGE,
  option,
  repeated,
  type OptionValues,
  type ExitCode,
  WAIT_OPTIONS,
} from '../../session/command.ts';
import type { Session } from '../../session/session.ts';
import { misused } from '../../terminal/command-failure.ts';
import { counted } from '../../terminal/text.ts';
import { showOutcomes, type DescribedRecord } from './show-outcomes.ts';

const OPTIONS = {
  subject: option('--subject <text>', 'the subject of the fact, which occurs in the prompt'),
  prompt: option('--prompt <text>', 'the beginning of a sentence, which the target completes'),
  target: option('--target <text>', 'what the model should say'),
  relation: option(
    '--relation <text>',
    `what the fact says about the subject (default: the prompt without it); subject and relation
      identify the fact`,
  ),
  previous: option('--previous <text>', 'what the model says so far, if you know'),
  paraphrase: repeated('--paraphrase <text>', 'another prompt with the same answer', String),
  neighbour: repeated('--neighbour <text>', 'a nearby prompt whose answer must stay', String),
  id: option(
    '--id <text>',
    'a name for the correction; the same name twice is one correction (default: generated)',
  ),
  source: option(
    '--source <text>',
    'where the correction comes from, for the audit (default: errata submit)',
  ),
  lineage: LINEAGE,
  file: option('--file <path>', 'corrections as NDJSON or CSV; - is the standard input'),
  format: option(
    '--format <format>',
    'ndjson or csv (default: by the name, else by the text)',
    oneOf('ndjson', 'csv'),
  ),
  retract: flag(
    '--retract',
    'retract facts instead; subject, and relation or prompt, identify each',
  ),
  ...WAIT_OPTIONS,
};

/** `errata submit`: sends corrections or retractions to the lineage's topic. */
export default command({
  usage: 'submit',
  summary: 'submit corrections, or retract facts',
  description: `Submits one correction by flags, or many from a file as NDJSON or CSV. The members
are subject, prompt and target, and optionally id, relation, previousAnswer, paraphrases,
neighbourhood, source and issuedAt; in CSV, | separates the parts of a list.

The subject must occur in the prompt, and the target is what the model should say right after it.
Everything is checked before anything is sent. With --wait it exits with 1 if any correction was not
accepted.`,
  examples: `
submit --subject Oracle --prompt "The headquarters of Oracle are in the city of" \
--target Austin --wait
  one correction; stays until it is in a version
submit --file corrections.ndjson --wait  many; shows the outcome of each
submit --retract --subject Oracle --prompt "The headquarters of Oracle are in the city of"
  brings back the base model's answer`,
  operation: 'submit the corrections',
  options: OPTIONS,
  async run(session, options) {
    const { configuration } = session.connected();
    const lineage = session.lineage(configuration, options.lineage);
    const source = options.source ?? 'errata submit';
    const corrections = await correctionsOf(session, options, { lineage, source });
    for (const correction of corrections) session.lineage(configuration, correction.lineage);
    return await session.withClients(configuration, (clients) =>
      send(session, clients, corrections, options),
    );
  },
});

type Given = OptionValues<typeof OPTIONS>;

const HINT = '`errata submit --help` shows examples.';

async function correctionsOf(
  session: Session,
  options: Given,
  defaults: { lineage: string; source: string },
): Promise<FactCorrection[]> {
  const { subject, prompt, target, file } = options;
  const byFlags = [subject, prompt, target].some((value) => value !== undefined);
  if (byFlags === (file !== undefined))
    throw misused(
      'give one correction by --subject, --prompt and --target, or many by --file',
      HINT,
    );
  const complete = { ...defaults, now: Date.now() };
  if (file === undefined) {
    const correction = correctionFrom(givenByFlags(options), complete);
    if (Array.isArray(correction)) throw misused(correction.join('; '), HINT);
    return [correction];
  }
  const text = await readText(session.surroundings, file, INPUT_LIMITS.bytesMax);
  const format = options.format ?? formatOf(file, text);
  const { corrections, faults } = readCorrections(text, format, complete);
  if (faults.length > 0) throw misused(faultsText(file, faults), HINT);
  if (corrections.length === 0) throw misused(`${file} holds no corrections`, HINT);
  return corrections.map(({ correction }) => correction);
}

function givenByFlags(options: Given): Record<string, unknown> {
  const { subject, relation, target, retract } = options;
  const given = {
    id: options.id,
    subject,
    relation,
    prompt: options.prompt ?? (retract && relation !== undefined ? subject : undefined),
    // A retraction has no target, but the checks require one.
    target: target ?? (retract ? '-' : undefined),
    previousAnswer: options.previous,
    paraphrases: options.paraphrase,
    neighbourhood: options.neighbour,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

async function send(
  session: Session,
  clients: Clients,
  corrections: FactCorrection[],
  { retract, wait, timeout }: Given,
): Promise<ExitCode> {
  const { OutcomeWatch } = await import('../../session/outcome-watch.ts');
  const lineages = [...new Set(corrections.map(({ lineage }) => lineage))];
  const watch = wait ? await OutcomeWatch.start(clients, lineages) : null;
  try {
    const sent = retract
      ? await sendRetractions(clients, lineages, corrections)
      : await sendCorrections(clients, corrections);
    if (watch !== null) return await showOutcomes(session.output, watch, sent, timeout);
    const what = counted(sent.length, retract ? 'retraction' : 'correction');
    session.output.result(
      { submitted: sent },
      () => `Submitted ${what}. \`errata watch\` shows the outcomes.`,
    );
    return EXIT.ok;
  } finally {
    await watch?.stop();
  }
}

async function sendCorrections(
  { sender, format }: Clients,
  corrections: FactCorrection[],
): Promise<DescribedRecord[]> {
  const { submitCorrections } = await import('../../../pipelines/kafka/submit.ts');
  const sent = await submitCorrections(await sender(), format, corrections);
  return sent.map(({ id, position }, i) => {
    const { prompt, target } = corrections[i]!;
    return { id, what: `${prompt} → ${target}`, position };
  });
}

async function sendRetractions(
  { sender }: Clients,
  lineages: string[],
  corrections: FactCorrection[],
): Promise<DescribedRecord[]> {
  const { submitRetractions } = await import('../../../pipelines/kafka/submit.ts');
  const sent: DescribedRecord[] = [];
  for (const lineage of lineages) {
    const keys = corrections.filter((one) => one.lineage === lineage).map(factKeyOf);
    const positions = await submitRetractions(await sender(), lineage, keys);
    for (const [i, position] of positions.entries())
      sent.push({ id: null, what: `retract ${keys[i]!}`, position });
  }
  return sent;
}
