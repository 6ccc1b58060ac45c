import { parseArgs } from 'node:util';
import { SnapgateError, toSnapgateError } from '../errors.ts';

/** One option of a command, as `--name` or `--name VALUE`. */
export type OptionSpec = {
  readonly type: 'string' | 'boolean';
  /** May be given several times; only for strings. */
  readonly multiple?: boolean;
  /** Must be given: the usage line names it. */
  readonly required?: boolean;
  /** Name of the value in the help text, for example `REF`. */
  readonly value?: string;
  /** One letter that stands for it too. */
  readonly short?: string;
  readonly help: string;
};

/** Values of the options that were given, by name. */
export type OptionValues = Readonly<Record<string, string | boolean | string[] | undefined>>;

/** What a command receives. */
export type CommandContext = {
  readonly options: OptionValues;
  readonly positionals: readonly string[];
  readonly io: CommandIo;
  /** Aborted on SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
};

/** Where a command prints: results on `out`, everything else on `err`. */
export type CommandIo = {
  readonly out: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  readonly err: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  readonly json: boolean;
  /** Whether `err` is a log that reads a priority in front of each line (sd-daemon(3)). */
  readonly hasPriorities?: boolean;
};

/** Priorities of syslog(3), as far as they are used. */
const PRIORITIES = { error: 3, warning: 4, info: 6 } as const;

/** A line for `err`, with its priority in front where that is read. */
export function logLine(
  io: Pick<CommandIo, 'hasPriorities'>,
  priority: keyof typeof PRIORITIES,
  text: string,
): string {
  // Each line of a text has its own.
  const mark = io.hasPriorities ? `<${PRIORITIES[priority]}>` : '';
  return text.replace(/^/gm, mark).concat('\n');
}

/**
 * One command. `name` has one or two words (`delta create`). `run` returns the object that `--json`
 * prints; without `--json`, `print` renders it for people.
 */
export type Command<Result = unknown> = {
  readonly name: string;
  readonly summary: string;
  /** Positional arguments for the usage line, for example `[REF]`. */
  readonly arguments?: string;
  readonly options: Readonly<Record<string, OptionSpec>>;
  run(context: CommandContext): Promise<Result>;
  print?(result: Result, io: CommandIo): void;
};

/** A set of commands under one program name. */
export type Program = {
  readonly name: string;
  readonly version: string;
  readonly summary: string;
  readonly commands: readonly Command[];
  /** Options that every command takes besides `--json` and `--help`. */
  readonly options?: Readonly<Record<string, OptionSpec>>;
};

const COMMON: Readonly<Record<string, OptionSpec>> = {
  json: { type: 'boolean', help: 'print one JSON object' },
  help: { type: 'boolean', short: 'h', help: 'print this help' },
};

/** Text of `PROGRAM --help`. */
export function programHelp(program: Program): string {
  const width = Math.max(...program.commands.map((command) => command.name.length));
  const lines = program.commands.map((c) => `  ${c.name.padEnd(width)}  ${c.summary}`);
  return [
    `${program.name} ${program.version}: ${program.summary}`,
    '',
    `Usage: ${program.name} COMMAND [OPTIONS]`,
    '',
    ...lines,
    '',
    `${program.name} COMMAND --help shows the options of a command.`,
    '',
  ].join('\n');
}

/** All options that a command takes: its own, the program's and those of every command. */
export function commandOptions(
  program: Program,
  command: Command,
): Readonly<Record<string, OptionSpec>> {
  return { ...command.options, ...program.options, ...COMMON };
}

/** An option as help texts name it, with its value. */
function optionText([name, spec]: [string, OptionSpec]): string {
  return spec.type === 'boolean' ? `--${name}` : `--${name} ${spec.value ?? 'VALUE'}`;
}

/** What follows the name of a command: its arguments, and the options that it cannot do without. */
export function usageOf(command: Command): string {
  const required = Object.entries(command.options).filter(([, spec]) => spec.required === true);
  return [command.arguments, ...required.map(optionText)].filter(Boolean).join(' ');
}

/** Text of `PROGRAM COMMAND --help`. */
export function commandHelp(program: Program, command: Command): string {
  const options = commandOptions(program, command);
  const left = Object.entries(options).map(optionText);
  const width = Math.max(...left.map((text) => text.length));
  const lines = Object.values(options).map(
    (spec, i) => `  ${left[i]?.padEnd(width)}  ${spec.help}`,
  );
  const usage = ['Usage:', program.name, command.name, usageOf(command), '[OPTIONS]'];
  return [usage.filter(Boolean).join(' '), '', command.summary, '', ...lines, ''].join('\n');
}

function findCommand(program: Program, argv: readonly string[]): [Command, string[]] | undefined {
  for (const words of [2, 1]) {
    const name = argv.slice(0, words).join(' ');
    const command = program.commands.find((candidate) => candidate.name === name);
    if (command !== undefined) return [command, argv.slice(words)];
  }
  return undefined;
}

function parse(program: Program, command: Command, args: string[]) {
  const specs = commandOptions(program, command);
  const options = Object.fromEntries(
    Object.entries(specs).map(([name, { type, multiple = false, short }]) => [
      name,
      { type, multiple, ...(short === undefined ? {} : { short }) },
    ]),
  );
  try {
    return parseArgs({ args, options, allowPositionals: true, strict: true });
  } catch (cause) {
    // Node also explains how to give arguments that begin with a dash, which nothing here takes.
    const [message = ''] = (cause as Error).message.split('. ');
    throw new SnapgateError('USAGE', message, { cause });
  }
}

function checkRequired(command: Command, options: OptionValues): void {
  const missing = Object.entries(command.options)
    .filter(([name, spec]) => spec.required === true && options[name] === undefined)
    .map(([name]) => `--${name}`);
  if (missing.length === 0) return;
  const verb = missing.length === 1 ? 'is' : 'are';
  throw new SnapgateError('USAGE', `${missing.join(', ')} ${verb} missing`);
}

/** The error for words that name no command. */
function unknownCommand(program: Program, argv: readonly string[]): SnapgateError {
  const [first = ''] = argv;
  const group = program.commands.filter(({ name }) => name.startsWith(`${first} `));
  const names = group.map(({ name }) => `${program.name} ${name}`).join(', ');
  return new SnapgateError('USAGE', `unknown command: ${argv.slice(0, names ? 2 : 1).join(' ')}`, {
    hint: names === '' ? `Run ${program.name} --help.` : `There are: ${names}.`,
  });
}

/**
 * Prints an error the way both commands do: one line of what and where, one of what to do next, which
 * is `help` for wrong arguments that say nothing better.
 */
export function printError(thrown: unknown, program: string, io: CommandIo, help?: string): void {
  const error = toSnapgateError(thrown);
  const hint = error.hint ?? (error.code === 'USAGE' ? help : undefined);
  if (io.json) {
    io.out.write(`${JSON.stringify({ error })}\n`);
    return;
  }
  const where = error.where === undefined ? '' : ` (${error.where})`;
  const line = (text: string) => io.err.write(logLine(io, 'error', `${program}: ${text}`));
  line(`${error.code}: ${error.message}${where}`);
  if (hint !== undefined) line(hint);
  if (error.code === 'INTERNAL' && error.cause instanceof Error && process.env.SNAPGATE_DEBUG) {
    io.err.write(`${error.cause.stack}\n`);
  }
}

/**
 * Runs the command that `argv` (without the program's own name) names, and returns the exit status:
 * 0, or the one that {@link ERROR_CODES} gives the error's code. Never throws.
 */
export async function runProgram(
  program: Program,
  argv: readonly string[],
  streams: Pick<CommandIo, 'out' | 'err' | 'hasPriorities'>,
  signal: AbortSignal,
): Promise<number> {
  const io: CommandIo = { ...streams, json: argv.includes('--json') };
  let help: string | undefined;
  try {
    const [first] = argv;
    if (first === 'help' && argv.length > 1) {
      return await runProgram(program, [...argv.slice(1), '--help'], streams, signal);
    }
    if (first === undefined || first === 'help' || first === '--help' || first === '-h') {
      io.out.write(programHelp(program));
      return first === undefined ? 2 : 0;
    }
    if (first === '--version') {
      io.out.write(`${program.version}\n`);
      return 0;
    }
    const found = findCommand(program, argv);
    if (found === undefined) throw unknownCommand(program, argv);
    const [command, args] = found;
    help = `Run ${program.name} ${command.name} --help.`;
    const { values, positionals } = parse(program, command, args);
    if (values.help === true) {
      io.out.write(commandHelp(program, command));
      return 0;
    }
    const options = values as OptionValues;
    checkRequired(command, options);
    const result = await command.run({ options, positionals, io, signal });
    if (io.json) io.out.write(`${JSON.stringify(result ?? {})}\n`);
    else command.print?.(result, io);
    return 0;
  } catch (thrown) {
    printError(thrown, program.name, io, help);
    return toSnapgateError(thrown).exitStatus;
  }
}

/** The value of a string option. Throws USAGE when it is required and missing. */
export function stringOption(options: OptionValues, name: string): string | undefined {
  const value = options[name];
  return typeof value === 'string' ? value : undefined;
}

/** The value of an option that must be given. Throws USAGE. */
export function requiredOption(options: OptionValues, name: string): string {
  const value = stringOption(options, name);
  if (value !== undefined) return value;
  throw new SnapgateError('USAGE', `--${name} is missing`);
}
