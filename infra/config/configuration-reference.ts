/** Generates the Markdown reference of all settings, docs/configuration.md. */
import { LINEAGE_SETTINGS } from './lineage-settings.ts';
import { SETTINGS, type Setting } from './settings.ts';

export function configurationReference(): string {
  return `# Configuration

Every setting is an environment variable, and has a place in an optional file
\`errata.config.json\` (in the working directory, or at the path in \`ERRATA_CONFIG\`). The
environment overrides the file, the file overrides the default. An empty variable counts as
absent. Everything is checked at the start, and all faults are reported together; a name that
looks like a setting but is not one is pointed out.

Secrets come from the environment or, with \`_FILE\` after the variable's name, from the file that
it names; never from the configuration file. They are not printed, logged or stored.

Without \`ERRATA_KAFKA_BROKERS\` and \`ERRATA_TEMPORAL_ADDRESS\`, \`errata up\` starts a broker
and a server.

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

The editor's hyper-parameters come from four places, each overriding the one before: the general
rule and the set for the model's shape (both in \`model/parameter-sets/\`), the file that
\`ERRATA_PARAMETER_SET\` names, and \`ERRATA_HYPER_PARAMETERS\`. \`errata doctor --model\` shows
which set applies. A file looks like this; \`errata tune\` writes one. \`fits\` describes the
models that it is for (a member that is absent allows any value); another model refuses it.

\`\`\`json
{
  "name": "my-model",
  "source": "where the numbers are from",
  "fits": { "architecture": "llama", "layers": 32, "residualWidth": 4096, "mlpWidth": 14336 },
  "parameters": {
    "layers": [4, 5, 6, 7, 8],
    "lambda": 14336,
    "clamp": 0.75,
    "gate": { "floor": 0.4 }
  }
}
\`\`\`

## Each lineage

These apply to all lineages. For one lineage, put its name (upper case, \`_\` for \`-\`) after
\`ERRATA_\`: \`ERRATA_NEWS_BATCH_EDITS_MAX\` is for \`news\` alone; in the file,
\`lineage.news.batch.batchEditsMax\`. Shares are fractions from 0 to 1.

${table(LINEAGE_SETTINGS)}

## The terminal

\`NO_COLOR\` (any value) disables colours; \`FORCE_COLOR\` enables them even if the output is not
a terminal.
`;
}

function table(settings: Record<string, Setting<unknown>>): string {
  const rows = Object.entries(settings).map(([path, setting]) => {
    const { variable, meaning, form } = setting;
    const cells = [`\`${variable}\``, `\`${path}\``, defaultOf(setting), meaning, form.expected];
    return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  });
  return [
    '| Variable | In the file | Default | Meaning | Form |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
  ].join('\n');
}

function defaultOf({ default: value, defaultText }: Setting<unknown>): string {
  return defaultText ?? `\`${Array.isArray(value) ? value.join(',') : String(value)}\``;
}
