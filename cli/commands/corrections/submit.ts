import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { factKeyOf, type FactCorrection, type KafkaPosition } from '../../../schemas/correction.ts';
import type { Clients } from '../../session/clients.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import {
  collected,
  EXIT,
  LINEAGE_OPTION,
  type CommandSpecification,
  type ExitCode,
} from '../../session/command.ts';
import {
  correctionFrom,
  formatOf,
  INPUT_LIMITS,
  readCorrections,
  type InputFault,
} from '../../input/correction-input.ts';
import type { Fate } from '../../session/outcome-watch.ts';
import { fateInWords, isGood } from '../../words/outcome-words.ts';
import { shortened } from '../../terminal/output.ts';
import { whileWaiting } from '../../terminal/progress.ts';
import type { Session } from '../../session/session.ts';

interface Options {
  subject?: string;
  relation?: string;
  prompt?: string;
  target?: string;
  previous?: string;
  paraphrase?: string[];
  neighbour?: string[];
  id?: string;
  source?: string;
  lineage?: string;
  file?: string;
  format?: string;
  retract?: boolean;
  wait?: boolean;
  timeout: number;
}

/** A revision on its way: what it is about and where its record stands. */
export interface Sent {
  id: string | null;
  what: string;
  position: KafkaPosition;
}

/** `errata submit`: corrections or retractions onto the lineage's topic. */
const submit: CommandSpecification<Options> = {
  usage: 'submit',
  summary: 'submit corrections, or retract facts',
  description: `Submits corrections: one by flags, or many by --file (or the standard input with --file -), as NDJSON or CSV.
The fields are subject, prompt and target, and if you like id, relation, previousAnswer, paraphrases, neighbourhood, source and issuedAt; in CSV, | separates the parts of a list.
The subject must occur in the prompt, and the target is what the model shall say right after it. Everything is checked before anything is sent. With --wait the command stays until each correction is committed, superseded, quarantined or refused, and exits with 1 if any was not taken.`,
  examples: [
    [
      'submit --subject Oracle --prompt "The headquarters of Oracle are in the city of" --target Austin --wait',
      'one correction; stays until it is in a version',
    ],
    ['submit --file corrections.ndjson --wait', 'many; shows what became of each'],
    ['submit --file - --format csv < corrections.csv', 'from the standard input'],
    [
      'submit --retract --subject Oracle --prompt "The headquarters of Oracle are in the city of"',
      "back to the base model's answer",
    ],
  ],
  operation: 'submit the corrections',
  options: (command) =>
    command
      .option('--subject <text>', 'what the fact is about; occurs in the prompt')
      .option('--prompt <text>', 'the beginning of a sentence, which the target completes')
      .option('--target <text>', 'what the model shall say')
      .option(
        '--relation <text>',
        'what is said about the subject (default: the prompt without it); subject and relation identify the fact',
      )
      .option('--previous <text>', 'what the model says so far, if you know')
      .option('--paraphrase <text>', 'another prompt with the same answer (repeatable)', collected)
      .option(
        '--neighbour <text>',
        'a nearby prompt whose answer must stay (repeatable)',
        collected,
      )
      .option(
        '--id <text>',
        'a name for the correction; the same name twice is one correction (default: made up)',
      )
      .option(
        '--source <text>',
        'where the correction comes from, for the audit (default: errata submit)',
      )
      .option(...LINEAGE_OPTION)
      .option('--file <path>', 'corrections as NDJSON or CSV; - is the standard input')
      .option(
        '--format <format>',
        'ndjson or csv (default: by the name, else by the text)',
        formatNamed,
      )
      .option('--retract', 'retract the facts instead: subject, and relation or prompt, say which')
      .option('--wait', 'stay until it is decided what becomes of each')
      .option('--timeout <seconds>', 'with --wait: how long at most', secondsNamed, 1_800),
  async run(session, options) {
    const { configuration } = session.connected('submit the corrections');
    const lineage = session.lineage(configuration, options.lineage);
    const corrections = await whatToSubmit(session, options, lineage);
    for (const { lineage: named } of corrections) session.lineage(configuration, named);
    const clients = (await import('../../session/clients.ts')).clientsOf(configuration);
    try {
      return await send(session, options, clients, corrections);
    } finally {
      await clients.close();
    }
  },
};

export default submit;

async function whatToSubmit(
  session: Session,
  options: Options,
  lineage: string,
): Promise<FactCorrection[]> {
  const byFlags = [options.subject, options.prompt, options.target].some(
    (value) => value !== undefined,
  );
  if (byFlags === (options.file !== undefined)) {
    throw usage('give one correction by --subject, --prompt and --target, or many by --file');
  }
  // A retraction has no target; the checks ask for one.
  const placeholder = options.retract === true ? { target: '-' } : {};
  const defaults = { lineage, source: options.source ?? 'errata submit', now: Date.now() };
  if (options.file === undefined) {
    const correction = correctionFrom(
      {
        ...placeholder,
        ...given({
          id: options.id,
          subject: options.subject,
          relation: options.relation,
          prompt:
            options.prompt ??
            (options.retract === true && options.relation !== undefined
              ? options.subject
              : undefined),
          target: options.target,
          previousAnswer: options.previous,
        }),
        paraphrases: options.paraphrase ?? [],
        neighbourhood: options.neighbour ?? [],
      },
      defaults,
    );
    if (Array.isArray(correction)) throw usage(correction.join('; '));
    return [correction];
  }
  const text = await textOf(session, options.file);
  const format = (options.format as 'ndjson' | 'csv' | undefined) ?? formatOf(options.file, text);
  const { corrections, faults } = readCorrections(text, format, defaults);
  if (faults.length > 0) throw usage(faultsInWords(options.file, faults));
  if (corrections.length === 0)
    throw usage(`${options.file === '-' ? 'the input' : options.file} holds no corrections`);
  return corrections.map(({ correction }) => correction);
}

const FAULTS_SHOWN_MAX = 20;

function faultsInWords(file: string, faults: InputFault[]): string {
  const shown = faults
    .slice(0, FAULTS_SHOWN_MAX)
    .map(
      ({ line, reason }) =>
        `\n  ${file === '-' ? 'line' : `${file}:`}${file === '-' ? ' ' : ''}${line}: ${reason}`,
    );
  return `${faults.length} fault${faults.length === 1 ? '' : 's'}, so nothing was sent:${shown.join('')}${faults.length > FAULTS_SHOWN_MAX ? `\n  and ${faults.length - FAULTS_SHOWN_MAX} more` : ''}`;
}

export async function textOf(session: Session, file: string): Promise<string> {
  const stream =
    file === '-'
      ? session.surroundings.in
      : createReadStream(resolve(session.surroundings.workingDirectory, file));
  const bytes = await everything(stream, file);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw usage(`${file} is not UTF-8`);
  }
}

/** Read piece by piece, for it may be a pipe or a device without end. */
async function everything(stream: NodeJS.ReadableStream, file: string): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of stream) {
    parts.push(Buffer.from(part));
    bytes += part.length;
    if (bytes > INPUT_LIMITS.bytesMax)
      throw usage(
        `${file} has more than ${INPUT_LIMITS.bytesMax} bytes, which is the most that is read at once`,
      );
  }
  return Buffer.concat(parts);
}

async function send(
  session: Session,
  options: Options,
  clients: Clients,
  corrections: FactCorrection[],
): Promise<ExitCode> {
  const { output } = session;
  const { submitCorrections, submitRetractions } =
    await import('../../../pipelines/kafka/submit.ts');
  const { watchOutcomes } = await import('../../session/outcome-watch.ts');
  const lineages = [...new Set(corrections.map(({ lineage }) => lineage))];
  const watch = options.wait === true ? await watchOutcomes(clients, lineages) : null;
  try {
    const sender = await clients.sender();
    let sent: Sent[];
    if (options.retract === true) {
      sent = [];
      for (const lineage of lineages) {
        const keys = corrections
          .filter((correction) => correction.lineage === lineage)
          .map(factKeyOf);
        const positions = await submitRetractions(sender, lineage, keys);
        sent = sent.concat(
          positions.map((position, i) => ({ id: null, what: `retract ${keys[i]!}`, position })),
        );
      }
    } else {
      const submitted = await submitCorrections(sender, clients.format, corrections);
      sent = submitted.map(({ id, position }, i) => ({
        id,
        what: `${corrections[i]!.prompt} → ${corrections[i]!.target}`,
        position,
      }));
    }
    if (watch === null) {
      output.result(
        { submitted: sent },
        () =>
          `Submitted ${sent.length} ${options.retract === true ? 'retraction' : 'correction'}${sent.length === 1 ? '' : 's'}. \`errata watch\` shows what becomes of them.`,
      );
      return EXIT.ok;
    }
    return await untilDecided(
      session,
      sent,
      options.timeout,
      (revision) => watch.fateOf(revision),
      watch.ended,
    );
  } finally {
    await watch?.stop();
  }
}

export async function untilDecided(
  session: Session,
  sent: Sent[],
  timeoutSeconds: number,
  fateOf: (revision: Sent) => Promise<Fate>,
  ended: Promise<Error>,
): Promise<ExitCode> {
  const { output } = session;
  let decided = 0;
  let good = 0;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new CommandFailure(
            'wait for the outcomes',
            `${sent.length - decided} of ${sent.length} are undecided after ${timeoutSeconds} s`,
            'They are not lost: `errata status` shows what waits, `errata watch` what happens.',
          ),
        ),
      timeoutSeconds * 1_000,
    );
  });
  const broken = ended.then((error) => Promise.reject(error));
  try {
    await whileWaiting(output, 'Corrections decided', sent.length, async (at) => {
      const all = Promise.all(
        sent.map(async (revision) => {
          const fate = await fateOf(revision);
          at((decided += 1));
          if (isGood(fate)) good += 1;
          output.item(
            { id: revision.id, position: revision.position, ...fate },
            () =>
              `${isGood(fate) ? output.colours.green('✓') : output.colours.red('✗')} ${shortened(revision.what, output.columns - 34).padEnd(output.columns - 34)} ${fateInWords(fate, output.colours)}`,
          );
        }),
      );
      await Promise.race([all, late, broken]);
    });
  } finally {
    clearTimeout(timer);
  }
  return good === sent.length ? EXIT.ok : EXIT.failure;
}

function usage(why: string): CommandFailure {
  return new CommandFailure('submit', why, 'errata submit --help shows examples.', EXIT.usage);
}

function given(values: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}

function formatNamed(text: string): string {
  if (text !== 'ndjson' && text !== 'csv')
    throw new InvalidArgumentError('It can be ndjson or csv.');
  return text;
}

export function secondsNamed(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 86_400))
    throw new InvalidArgumentError('It must be a number of seconds, at most 86400.');
  return value;
}
