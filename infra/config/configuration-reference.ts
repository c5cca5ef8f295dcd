/**
 * The reference of all settings as Markdown (docs/configuration.md), made from the settings
 * themselves.
 */
import { LINEAGE_SETTINGS, SETTINGS, type Setting } from './configuration-settings.ts';

export function configurationReference(): string {
  return `# Configuration

Every setting is an environment variable, and has a place in an optional file \`errata.config.json\` (in the working
directory, or where \`ERRATA_CONFIG\` says). The environment beats the file, the file beats the default. An empty variable
counts as absent. Everything is checked at the start, and all faults are reported together; a name that looks like a
setting and is none is pointed out.

Secrets come from the environment or, with \`_FILE\` behind the name, from a file that the variable names; never from the
configuration file. They are not printed, logged or stored.

Without \`ERRATA_KAFKA_BROKERS\` and \`ERRATA_TEMPORAL_ADDRESS\`, \`errata up\` starts a broker and a server of its own.

\`\`\`json
{
  "lineages": ["default", "news"],
  "kafka": { "brokers": ["kafka-1:9093", "kafka-2:9093"], "ssl": { "enabled": true } },
  "batch": { "batchWaitMs": 5000 },
  "lineage": { "news": { "batch": { "batchEditsMax": 50 } } }
}
\`\`\`

## The installation

${table(SETTINGS)}

## Parameter sets

The editor's hyper-parameters come from four places, each over the one before: the general rule and the set for the
model's shape (both in \`model/parameter-sets/\`), the file that \`ERRATA_PARAMETER_SET\` names, and
\`ERRATA_HYPER_PARAMETERS\`. \`errata doctor --model\` shows which set applies. A file looks like this; \`errata tune\` writes
one. \`fits\` says which models it is for (whatever it leaves out may be anything), and another model refuses it.

\`\`\`json
{
  "name": "my-model",
  "source": "where the numbers are from",
  "fits": { "architecture": "llama", "layers": 32, "residualWidth": 4096, "mlpWidth": 14336 },
  "parameters": { "layers": [4, 5, 6, 7, 8], "lambda": 14336, "clamp": 0.75, "gate": { "floor": 0.4 } }
}
\`\`\`

## Each lineage

These hold for all lineages. For one lineage, put its name (upper case, \`_\` for \`-\`) behind \`ERRATA_\`:
\`ERRATA_NEWS_BATCH_EDITS_MAX\` is for \`news\` alone; in the file, \`lineage.news.batch.batchEditsMax\`. Shares are fractions
from 0 to 1.

${table(LINEAGE_SETTINGS)}

## The terminal

\`NO_COLOR\` (any value) switches colours off, \`FORCE_COLOR\` switches them on where the output is no terminal.
`;
}

function table(settings: Record<string, Setting>): string {
  const rows = Object.entries(settings).map(([path, setting]) =>
    [
      `\`${setting.variable}\``,
      `\`${path}\``,
      defaultOf(setting),
      setting.meaning,
      setting.form.expected,
    ]
      .map((cell) => cell.replaceAll('|', '\\|'))
      .join(' | '),
  );
  return [
    '| Variable | In the file | Default | Meaning | Form |',
    '| --- | --- | --- | --- | --- |',
    ...rows.map((row) => `| ${row} |`),
  ].join('\n');
}

function defaultOf(setting: Setting): string {
  if (setting.defaultWords !== undefined) return setting.defaultWords;
  if (setting.default === null) return 'none';
  const { default: value } = setting;
  return `\`${typeof value === 'string' ? value : Array.isArray(value) ? value.join(',') : JSON.stringify(value)}\``;
}
