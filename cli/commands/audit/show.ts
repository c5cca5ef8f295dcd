import type { AliasRecord } from '../../../schemas/alias.ts';
import type { CorrectionProbe } from '../../../schemas/editing.ts';
import type { VersionEntry } from '../../../schemas/version-entry.ts';
import { probesOf } from '../../../versions/audit/version-mark.ts';
import type { StoredEntry } from '../../../versions/log/history.ts';
import { committedVersion } from '../../input/option-values.ts';
import { LINEAGE, command } from '../../session/command.ts';
import type { Output } from '../../terminal/output.ts';
import { bold, dim, green, red } from '../../terminal/colours.ts';
import { counted, fieldLines, shortened, table } from '../../terminal/text.ts';
import { historyHint, historyLink } from './trace-text.ts';
import { aliasText, scoresTable, undoText } from './version-text.ts';

/** `errata show <version>`: shows everything that went into one version. */
export default command({
  usage: 'show <version>',
  summary: 'show what made a version',
  description: `Shows one version, a number or \`head\`: its corrections with the answers before and
after, what it removed, its scores, the Kafka record of each correction, its workflow, and what it
was made with. Reads the version log alone, so nothing needs to run.`,
  examples: `
show head      the newest version
show 3 --json  version 3 with all its fields and the details of its probes`,
  operation: 'show the version',
  options: { lineage: LINEAGE },
  async run(session, options, [name]) {
    const { configuration, lineage, log } = session.open(options.lineage);
    const { head } = await log.read();
    const version = committedVersion(name!, lineage, head.version);
    const stored = await log.entry(version);
    const details = await probesOf(log, stored.entry.probes.details);
    const current = [...(await log.aliases()).current.values()];
    const aliases = current.filter((alias) => alias.version === version);
    const link = historyLink(configuration, stored.entry.workflow);
    const value = { hash: stored.hash, ...stored.entry, details, aliases, historyLink: link };
    session.output.result(value, () =>
      [
        ...headLines(stored, aliases, historyHint(configuration, stored.entry)),
        ...addedLines(session.output, stored.entry, details),
        ...removedLines(stored.entry),
        ...madeWithLines(session.output, stored.entry),
      ].join('\n'),
    );
  },
});

const NAME_COLUMNS = 16;

function headLines(
  { entry, hash }: StoredEntry,
  aliases: readonly AliasRecord[],
  history: string,
): string[] {
  const { undo, workflow, base } = entry;
  const requested = (): string =>
    `${undoText(undo!)}, ${new Date(undo!.requestedAt).toISOString()}  ${dim(`undo:${undo!.id}`)}`;
  return [
    `${bold(`Version ${entry.version}`)} of ${entry.lineage}  ${dim(hash)}`,
    ...fieldLines(
      [
        ['parent', entry.parent ?? 'the base model'],
        ['made', entry.createdAt],
        ['batch', `${entry.batchId}  (${workflow.workflowId}, run ${workflow.runId})`],
        ['history', history],
        ['base', `${base.name}  ${dim(base.sha256.slice(0, 16))}`],
        ['holds', counted(entry.corrections, 'correction')],
        ['made by', undo === undefined ? null : requested()],
        ['because', undo?.reason ?? null],
        ...aliases.map((alias): [string, string] => ['alias', aliasText(alias)]),
      ],
      NAME_COLUMNS,
    ),
  ];
}

function addedLines(
  output: Output,
  { added, undo }: VersionEntry,
  details: readonly CorrectionProbe[],
): string[] {
  if (added.length === 0) return [];
  const answerColumns = Math.floor((output.columns - 6) / 4);
  const probes = new Map(details.map((probe) => [probe.id, probe]));
  const answers = added.map(({ correctionId, prompt, target }) => {
    const probe = probes.get(correctionId);
    const after = shortened(probe?.answerAfter ?? target, answerColumns - 2);
    return [
      shortened(prompt, output.columns - 2 * answerColumns - 4),
      shortened(probe?.answerBefore ?? '', answerColumns - 2),
      probe?.effective === false ? red(after) : green(after),
    ];
  });
  const records = added.map(({ correctionId, position, replayOf, source }) => [
    shortened(correctionId, 36),
    `${position.topic}-${position.partition}@${position.offset}`,
    shortened(
      `${replayOf === undefined ? '' : `(resubmits ${replayOf}) `}${source}`,
      output.columns - 76,
    ),
  ]);
  return [
    '',
    bold(`${undo === undefined ? 'Added' : 'Restored'} (${added.length})`),
    table(['prompt', 'before', 'after'], answers),
    '',
    bold('Where they came from'),
    table(['correction', 'record', 'source'], records),
  ];
}

function removedLines({ removed }: VersionEntry): string[] {
  if (removed.length === 0) return [];
  const rows = removed.map(({ correctionId, because, by }) => [correctionId, because, by]);
  const title = bold(`Removed (${removed.length})`);
  return ['', title, table(['correction', 'because', 'by'], rows)];
}

function madeWithLines(output: Output, entry: VersionEntry): string[] {
  const gates = entry.layers.map(({ layer, threshold }) => `${layer}: ${threshold.toFixed(3)}`);
  const software = Object.entries(entry.software).map(([name, version]) => `${name} ${version}`);
  const { tokens, source } = entry.keyStatistics;
  return [
    '',
    bold('Probes'),
    scoresTable(entry.probes),
    '',
    bold('Made with'),
    ...fieldLines(
      [
        ['parameters', shortened(JSON.stringify(entry.parameters), output.columns * 3)],
        ['gates', gates.join('  ')],
        ['key statistics', `${tokens} tokens, ${source}`],
        ['software', software.join(', ')],
      ],
      NAME_COLUMNS,
    ),
  ];
}
