/** Generates the command reference (docs/commands.md) from the help texts. */
import { Help, type Command } from 'commander';
import { EXIT_MEANINGS } from './terminal/exit-code.ts';

export function commandReference(program: Command): string {
  const commands = leavesOf(program);
  return `# Commands

\`npx errata <command>\` in the project's folder. \`errata help <command>\` prints what is below.
Results go to the standard output, progress and failures to the error output; every command takes
\`--json\` for programs. Settings come from the environment, see
[configuration.md](configuration.md).

## Exit codes

| Code | Meaning |
| --- | --- |
${EXIT_MEANINGS.map(([code, meaning]) => `| ${code} | ${meaning} |`).join('\n')}

${commands.map(section).join('\n')}`;
}

function leavesOf(program: Command): Command[] {
  return program.commands
    .filter((command) => command.name() !== 'help')
    .flatMap((command) => (command.commands.length > 0 ? leavesOf(command) : [command]));
}

function section(command: Command): string {
  let text = '';
  command.configureOutput({ writeOut: (part) => (text += part), getOutHelpWidth: () => COLUMNS });
  command.createHelp = () => Object.assign(new Help(), { helpWidth: COLUMNS });
  command.outputHelp();
  return `## ${nameOf(command)}\n\n\`\`\`text\n${text.trim()}\n\`\`\`\n`;
}

function nameOf(command: Command): string {
  return command.parent === null ? command.name() : `${nameOf(command.parent)} ${command.name()}`;
}

const COLUMNS = 100;
