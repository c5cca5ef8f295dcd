import type { AskedDifference } from '../../../serving/api/audit.ts';
import { differenceOf, type Difference } from '../../../versions/audit/difference.ts';
import type { VersionLog } from '../../../versions/log/version-log.ts';
import { versionNamed, wholeNumber } from '../../input/option-values.ts';
import { promptsInFile } from '../../input/probe-prompts.ts';
import { withAnswers } from '../../session/answering.ts';
import { command, flag, LINEAGE, option } from '../../session/command.ts';
import { whileWaiting } from '../../terminal/status-line.ts';
import { differenceText } from '../../words/difference-text.ts';

/** `errata diff <from> [to]`: what differs between two versions. */
export default command({
  usage: 'diff <from> [to]',
  summary: 'show what differs between two versions',
  description: `Shows what differs between two versions (numbers, \`base\` or \`head\`; without the
second, HEAD): facts added, superseded, retracted, reverted and restored, answers that the stored
probes saw change, edit norms and gate thresholds per layer, scores, hyper-parameters, base model
and software. Reads the version log alone, so nothing needs to run.

With --ask both versions answer the prompts, paraphrases and neighbours of the corrections that
differ, with --probes those of a file: by the running \`serve\`, or by a model that is loaded.`,
  examples: `
diff 3 7               what versions 4 to 7 changed
diff base head --json  all corrections since the base model, for a program
diff 6 7 --ask         how the answers to the corrected prompts differ now
diff 3 head --probes questions.txt
  how the answers to your own prompts differ; one a line, or NDJSON with "prompt"`,
  operation: 'compare the versions',
  options: {
    ask: flag('--ask', 'ask both versions the prompts of the corrections that differ'),
    probes: option('--probes <file>', 'ask both versions the prompts of a file'),
    lineage: LINEAGE,
    tokens: option('--tokens <number>', 'length of the answers, at most 64', wholeNumber, 8),
  },
  async run(session, options, [a, b]) {
    const { output } = session;
    const { configuration, lineage, log } = session.open(options.lineage);
    const head = (await log.read()).head.version;
    const [from, to] = [versionNamed(a) ?? head, versionNamed(b) ?? head];
    const difference = await differenceOf(log, from, to);
    let prompts: string[] = [];
    if (options.probes !== undefined)
      prompts = await promptsInFile(session.surroundings, options.probes);
    else if (options.ask) prompts = await promptsOf(log, difference);
    const question = { lineage, from, to, tokensMax: options.tokens };
    const work = (at: (done: number) => void) =>
      withAnswers(configuration, lineage, async (ask) => {
        const asked: AskedDifference['asked'] = [];
        for (let i = 0; i < prompts.length; i += PROMPTS_TOGETHER) {
          const part = { ...question, prompts: prompts.slice(i, i + PROMPTS_TOGETHER) };
          const answer = (await ask('/v1/diff', part, PART_WAIT_MS)) as AskedDifference;
          asked.push(...answer.asked);
          at(asked.length);
        }
        return asked;
      });
    const asked =
      prompts.length === 0
        ? []
        : await whileWaiting(output, 'asking both versions', work, prompts.length);
    const result = { ...difference, asked };
    output.result(result, () => differenceText(output, result));
  },
});

/** Prompts that --ask asks at most. */
const PROMPTS_MAX = 1_000;
/** Prompts per request. */
const PROMPTS_TOGETHER = 32;
const PART_WAIT_MS = 600_000;

/** The prompts, paraphrases and neighbours of the corrections that differ. */
async function promptsOf(log: VersionLog, difference: Difference): Promise<string[]> {
  const { added, superseded, retracted, reverted, contradicted, notYet } = difference;
  const replaced = superseded.flatMap(({ before, after }) => [before, after]);
  const ids = new Set(
    [...added, ...retracted, ...reverted, ...contradicted, ...notYet, ...replaced].map(
      ({ correctionId }) => correctionId,
    ),
  );
  const sides = await Promise.all(
    [difference.from, difference.to].map(({ version }) => log.at(version)),
  );
  const prompts = sides
    .flatMap(({ active }) => [...active.values()])
    .filter(({ correctionId }) => ids.has(correctionId))
    .flatMap(({ prompt, paraphrases, neighbourhood }) => [
      prompt,
      ...paraphrases,
      ...neighbourhood,
    ]);
  return [...new Set(prompts)].slice(0, PROMPTS_MAX);
}
