import { ERROR_CODES } from '../errors.ts';
import { type Command, commandOptions, type OptionSpec, type Program, usageOf } from './command.ts';

/** Parts of a manual page that do not follow from the commands. Text is plain; blank lines part paragraphs. */
export type ManPage = {
  /** Section of the manual: 1 for commands of users, 8 for those of administrators. */
  readonly section: number;
  readonly description: string;
  /** Fields of the configuration file, by their paths in it. */
  readonly settings?: readonly (readonly [name: string, meaning: string])[];
  readonly files: readonly (readonly [path: string, meaning: string])[];
  readonly environment: readonly (readonly [name: string, meaning: string])[];
  /** Command lines, and what each is for. */
  readonly examples?: readonly (readonly [line: string, meaning: string])[];
  readonly seeAlso: readonly string[];
};

const STATUS: Readonly<Record<number, string>> = {
  0: 'done, or nothing to do',
  1: 'internal error or cancelled',
  2: 'wrong arguments or configuration',
  3: 'refused by a signature or by the policy',
  4: 'content that is not what it claims to be',
  5: 'network or registry',
  6: 'storage, file system or boot loader',
  7: 'busy, or not allowed now',
};

/** The manual page of a program as man(7) source. */
export function manPage(program: Program, page: ManPage): string {
  return [
    `.TH ${program.name.toUpperCase()} ${page.section} "" "Snapgate ${program.version}"`,
    '.SH NAME',
    `${program.name} \\- ${escapeText(program.summary)}`,
    '.SH SYNOPSIS',
    `.B ${program.name}`,
    '.I COMMAND',
    '[OPTIONS]',
    '.SH DESCRIPTION',
    paragraphs(page.description),
    '.SH COMMANDS',
    ...program.commands.map((command) => commandText(program, command)),
    '.SH OPTIONS OF EVERY COMMAND',
    ...optionTexts({ ...program.options, ...commonOptions(program) }),
    '.SH EXIT STATUS',
    ...Object.entries(STATUS).map(
      ([status, meaning]) => `.TP\n.B ${status}\n${escapeText(meaning)}`,
    ),
    '.SH ERROR CODES',
    'The same code stands in the messages, in JSON output and in answers over HTTP.',
    ...Object.entries(ERROR_CODES).map(
      ([code, { exit, meaning }]) => `.TP\n.BR ${code} " (" ${exit} ")"\n${escapeText(meaning)}`,
    ),
    ...list('CONFIGURATION', page.settings ?? []),
    ...list('FILES', page.files),
    ...list('ENVIRONMENT', page.environment),
    ...list('EXAMPLES', page.examples ?? []),
    '.SH SEE ALSO',
    escapeText(page.seeAlso.join(', ')),
    '',
  ].join('\n');
}

function commonOptions(program: Program): Readonly<Record<string, OptionSpec>> {
  const none: Command = { name: '', summary: '', options: {}, run: async () => undefined };
  return commandOptions(program, none);
}

function commandText(program: Program, command: Command): string {
  const usage = [`.B ${program.name} ${command.name}`, escapeText(usageOf(command))].filter(
    Boolean,
  );
  return [
    `.SS ${program.name} ${command.name}`,
    usage.join('\n'),
    '.PP',
    escapeText(command.summary),
    ...optionTexts(command.options),
  ].join('\n');
}

function optionTexts(options: Readonly<Record<string, OptionSpec>>): string[] {
  return Object.entries(options).map(([name, spec]) => {
    const value = spec.type === 'string' ? ` " " ${spec.value ?? 'VALUE'}` : '';
    return `.TP\n.BR \\-\\-${escapeText(name)}${value}\n${escapeText(spec.help)}`;
  });
}

function list(title: string, rows: readonly (readonly [string, string])[]): string[] {
  if (rows.length === 0) return [];
  return [
    `.SH ${title}`,
    ...rows.map(([name, meaning]) => `.TP\n.B ${escapeText(name)}\n${escapeText(meaning)}`),
  ];
}

function paragraphs(text: string): string {
  return text
    .trim()
    .split(/\n\s*\n/)
    .map((part) => escapeText(part.replace(/\s+/g, ' ').trim()))
    .join('\n.PP\n');
}

/** A line must not begin with a control character, and a dash is a minus sign unless it is said otherwise. */
function escapeText(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1');
}
