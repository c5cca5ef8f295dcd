import type { CorrectionProbe } from '../../../schemas/editing.ts';
import type { AliasRecord } from '../../../schemas/alias.ts';
import type { StoredEntry } from '../../../versions/log/history.ts';
import { probesOf } from '../../../versions/audit/trace.ts';
import { historyLink } from '../../words/history-link.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import { attached } from '../../../infra/local/system-state.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { aliasInWords } from '../../words/alias-words.ts';
import { shortened, type Output } from '../../terminal/output.ts';
import { historyHint, scoresTable } from '../../words/trace-text.ts';
import { undoInWords } from '../../words/undo-text.ts';

interface Options {
  lineage?: string;
}

/** `errata show <version>`: everything that made one version. */
const show: CommandSpecification<Options> = {
  usage: 'show <version>',
  summary: 'show what made a version',
  description:
    'Shows one version: its corrections with the answers before and after, what left, the scores of the probes, where each record stood in Kafka, the word of an operator where one made it, the workflow and where its history is, the hyper-parameters and the software. <version> is a number or `head`. Reads the version log itself, so nothing needs to run.',
  examples: [
    ['show head', 'the newest version'],
    ['show 3 --json', 'version 3, whole, with the details of its probes'],
  ],
  operation: 'show the version',
  options: (command) => command.option(...LINEAGE_OPTION),
  async run(session, options, [named]) {
    const own = session.configuration();
    const configuration = attached(own, session.system(own));
    const lineage = session.lineage(configuration, options.lineage);
    const log = openVersions(configuration).log(lineage);
    const history = await log.read();
    const version = named === 'head' ? history.head.version : Number(named);
    if (!Number.isInteger(version) || version < 0)
      throw new CommandFailure(
        'show the version',
        `"${named}" is no version`,
        'A version is a number, or `head`.',
        EXIT.usage,
      );
    if (version === 0 || version > history.head.version) {
      throw new CommandFailure(
        'show the version',
        version === 0
          ? 'version 0 is the base model, nothing made it'
          : `lineage ${lineage} has versions 1 to ${history.head.version}`,
        'errata log lists them.',
      );
    }
    const stored = await log.entry(version);
    const probes = await probesOf(log, stored.entry.probes.details);
    const aliases = [...(await log.aliases()).current.values()].filter(
      (word) => word.version === version,
    );
    const link = historyLink(configuration, stored.entry.workflow);
    session.output.result(
      { hash: stored.hash, ...stored.entry, details: probes, aliases, historyLink: link },
      () =>
        describe(session.output, stored, probes, aliases, historyHint(configuration, stored.entry)),
    );
    return EXIT.ok;
  },
};

export default show;

function describe(
  output: Output,
  { entry, hash }: StoredEntry,
  probes: CorrectionProbe[],
  aliases: readonly AliasRecord[],
  history: string,
): string {
  const { bold, dim, green, red } = output.colours;
  const byId = new Map(probes.map((probe) => [probe.id, probe]));
  const answerColumns = Math.floor((output.columns - 6) / 4);
  const field = (name: string, value: string): string => `${dim(name.padEnd(16))}${value}`;
  const lines = [
    `${bold(`Version ${entry.version}`)} of ${entry.lineage}  ${dim(hash)}`,
    field('parent', entry.parent ?? 'the base model'),
    field('made', entry.createdAt),
    field('batch', `${entry.batchId}  (${entry.workflow.workflowId}, run ${entry.workflow.runId})`),
    field('history', history),
    field('base', `${entry.base.name}  ${dim(entry.base.sha256.slice(0, 16))}`),
    field('holds', `${entry.corrections} correction${entry.corrections === 1 ? '' : 's'}`),
  ];
  if (entry.undo !== undefined) {
    const { id, reason, requestedAt } = entry.undo;
    lines.push(
      field(
        'made by',
        `${undoInWords(entry.undo)}, ${new Date(requestedAt).toISOString()}  ${dim(`undo:${id}`)}`,
      ),
      field('because', reason),
    );
  }
  for (const word of aliases) lines.push(field('alias', aliasInWords(word)));
  if (entry.added.length > 0) {
    const rows = entry.added.map((added) => {
      const probe = byId.get(added.correctionId);
      return [
        shortened(added.prompt, output.columns - 2 * answerColumns - 4),
        shortened(probe?.answerBefore ?? '', answerColumns - 2),
        (probe?.effective === false ? red : green)(
          shortened(probe?.answerAfter ?? added.target, answerColumns - 2),
        ),
      ];
    });
    lines.push(
      '',
      bold(`${entry.undo === undefined ? 'Added' : 'Restored'} (${entry.added.length})`),
      output.table(['prompt', 'before', 'after'], rows),
    );
    lines.push(
      '',
      bold('Where they came from'),
      output.table(
        ['correction', 'record', 'source'],
        entry.added.map((added) => [
          shortened(added.correctionId, 36),
          `${added.position.topic}-${added.position.partition}@${added.position.offset}`,
          shortened(
            `${added.replayOf === undefined ? '' : `(again for ${added.replayOf}) `}${added.source}`,
            output.columns - 76,
          ),
        ]),
      ),
    );
  }
  if (entry.removed.length > 0) {
    lines.push(
      '',
      bold(`Removed (${entry.removed.length})`),
      output.table(
        ['correction', 'because', 'by'],
        entry.removed.map((removed) => [removed.correctionId, removed.because, removed.by]),
      ),
    );
  }
  lines.push(
    '',
    bold('Probes'),
    scoresTable(output, entry.probes),
    '',
    bold('Made with'),
    field('parameters', shortened(JSON.stringify(entry.parameters), output.columns * 3)),
    field(
      'gates',
      entry.layers.map((layer) => `${layer.layer}: ${layer.threshold.toFixed(3)}`).join('  '),
    ),
    field('key statistics', `${entry.keyStatistics.tokens} tokens, ${entry.keyStatistics.source}`),
    field(
      'software',
      Object.entries(entry.software)
        .map(([name, version]) => `${name} ${version}`)
        .join(', '),
    ),
  );
  return lines.join('\n');
}
