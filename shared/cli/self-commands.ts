import type { Command, Program } from './command.ts';
import { completionScript, SHELLS } from './completion.ts';
import { type ManPage, manPage } from './man-page.ts';

/** A program with the commands that describe itself: `completion SHELL` and `man`. */
export function withSelfCommands(program: Program, page: ManPage): Program {
  const commands = [...program.commands];
  const whole: Program = { ...program, commands };
  const completion: Command<{ script: string }> = {
    name: 'completion',
    summary: `Print the completion script of a shell: ${SHELLS.join(', ')}`,
    arguments: 'SHELL',
    options: {},
    run: async ({ positionals }) => ({ script: completionScript(whole, positionals[0] ?? '') }),
    print: ({ script }, { out }) => void out.write(script),
  };
  const man: Command<{ source: string }> = {
    name: 'man',
    summary: 'Print the manual page, for man -l -',
    options: {},
    run: async () => ({ source: manPage(whole, page) }),
    print: ({ source }, { out }) => void out.write(source),
  };
  commands.push(completion as Command, man as Command);
  return whole;
}
