import { SnapgateError } from '../errors.ts';
import { type Command, commandOptions, type Program } from './command.ts';

/** Shells that {@link completionScript} knows. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** The completion script of a program for a shell. Throws USAGE for a shell that is not known. */
export function completionScript(program: Program, shell: string): string {
  switch (shell) {
    case 'bash':
      return bash(program);
    case 'zsh':
      // zsh runs bash's completion functions as they are.
      return `#compdef ${program.name}\nautoload -U +X bashcompinit && bashcompinit\n${bash(program)}`;
    case 'fish':
      return fish(program);
    default:
      throw new SnapgateError('USAGE', shell ? `no completion for ${shell}` : 'name a shell', {
        hint: `Name one of: ${SHELLS.join(', ')}.`,
      });
  }
}

function options(program: Program, command: Command): string[] {
  return Object.keys(commandOptions(program, command)).map((name) => `--${name}`);
}

function valueOptions(program: Program): string[] {
  const names = program.commands.flatMap((command) =>
    Object.entries(commandOptions(program, command))
      .filter(([, spec]) => spec.type === 'string')
      .map(([name]) => `--${name}`),
  );
  return [...new Set(names)].sort();
}

/** The words that may stand first, and for each first word of two-word commands those that follow. */
function words(program: Program): { first: string[]; second: Map<string, string[]> } {
  const second = new Map<string, string[]>();
  const first = new Set<string>();
  for (const { name } of program.commands) {
    const [one = '', two] = name.split(' ');
    first.add(one);
    if (two !== undefined) second.set(one, [...(second.get(one) ?? []), two]);
  }
  return { first: [...first].sort(), second };
}

function bash(program: Program): string {
  const { first, second } = words(program);
  const name = `_${program.name.replaceAll('-', '_')}`;
  const known = program.commands.map(
    (command) => `    '${command.name}') words='${options(program, command).join(' ')}' ;;`,
  );
  const follow = [...second].map(
    ([one, twos]) => `    '2 ${one}') files= words='${twos.join(' ')}' ;;`,
  );
  return `${name}() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]}
  local one=\${COMP_WORDS[1]-} two=\${COMP_WORDS[2]-} words='' files=yes
  case $previous in
    ${valueOptions(program).join('|') || '--'}) COMPREPLY=($(compgen -f -- "$current")); return ;;
  esac
  case "$COMP_CWORD $one" in
    '1 '*) files= words='${first.join(' ')} --help --version' ;;
${follow.join('\n')}
  esac
  [ -n "$words" ] || case "$one $two" in
${known.filter((line) => line.includes(' ', 5)).join('\n')}
    *) case $one in
${known.join('\n')}
    esac ;;
  esac
  two=''
  case $current in
    -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
    *) for one in $words; do case $one in -*) ;; *) two="$two $one" ;; esac; done
       COMPREPLY=($(compgen -W "$two" -- "$current"))
       local IFS=$'\n'
       [ -z "$files" ] || COMPREPLY+=($(compgen -f -- "$current")) ;;
  esac
}
complete -o filenames -F ${name} ${program.name}
`;
}

function fish(program: Program): string {
  const quote = (text: string) => `'${text.replace(/[\\']/g, '\\$&')}'`;
  const lines = [`complete -c ${program.name} -f`];
  const { first, second } = words(program);
  for (const one of first) {
    const summary = program.commands.find(({ name }) => name === one)?.summary ?? one;
    lines.push(
      `complete -c ${program.name} -n __fish_use_subcommand -a ${one} -d ${quote(summary)}`,
    );
    for (const two of second.get(one) ?? []) {
      const found = program.commands.find(({ name }) => name === `${one} ${two}`);
      const when = `__fish_seen_subcommand_from ${one}; and not __fish_seen_subcommand_from ${two}`;
      lines.push(
        `complete -c ${program.name} -n ${quote(when)} -a ${two} -d ${quote(found?.summary ?? two)}`,
      );
    }
  }
  for (const command of program.commands) {
    const when = command.name.split(' ').map((word) => `__fish_seen_subcommand_from ${word}`);
    for (const [name, spec] of Object.entries(commandOptions(program, command))) {
      const value = spec.type === 'string' ? ' -r -F' : '';
      lines.push(
        `complete -c ${program.name} -n ${quote(when.join('; and '))} -l ${name}${value} -d ${quote(spec.help)}`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}
