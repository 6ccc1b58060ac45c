import { execFileSync, spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import type { Program } from '../../../shared/cli/command.ts';
import { completionScript } from '../../../shared/cli/completion.ts';
import { manPage } from '../../../shared/cli/man-page.ts';

const run = async () => undefined;
const program: Program = {
  name: 'tool',
  version: '1.2',
  summary: 'does things',
  commands: [
    {
      name: 'serve',
      summary: 'Serve.',
      options: { config: { type: 'string', help: 'file' } },
      run,
    },
    {
      name: 'delta create',
      summary: "Make a delta; don't wait.",
      options: { push: { type: 'boolean', help: '-' } },
      run,
    },
    {
      name: 'delta apply',
      summary: 'Apply.',
      options: { source: { type: 'string', help: 'x' } },
      run,
    },
  ],
};

/** What bash offers for a line whose last word is being typed. */
function complete(...words: string[]): string[] {
  const script = `${completionScript(program, 'bash')}
COMP_WORDS=(tool "$@"); COMP_CWORD=$#
cd shared/cli
_tool; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const output = execFileSync('bash', ['-c', script, 'bash', ...words], { encoding: 'utf8' });
  return output.split('\n').filter(Boolean).sort();
}

describe('completion in bash', () => {
  it('offers the first words of commands', () => {
    expect(complete('')).toEqual(['delta', 'serve']);
    expect(complete('s')).toEqual(['serve']);
    expect(complete('--v')).toEqual(['--version']);
  });

  it('offers the second words', () => {
    expect(complete('delta', '')).toEqual(['apply', 'create']);
  });

  it('offers the options of the command that was typed', () => {
    expect(complete('serve', '--c')).toEqual(['--config']);
    expect(complete('delta', 'create', '--')).toEqual(['--help', '--json', '--push']);
    expect(complete('delta', 'apply', '--s')).toEqual(['--source']);
  });

  it('offers files where arguments and values stand, and only there', () => {
    expect(complete('man')).toEqual([]);
    expect(complete('delta', 'man')).toEqual([]);
    expect(complete('delta', 'apply', 'man')).toEqual(['man-page.ts']);
    expect(complete('serve', '--config', 'man')).toEqual(['man-page.ts']);
  });
});

/** What zsh offers, by its own way of running bash's functions. */
function completeInZsh(...words: string[]) {
  // In place of compinit, which reads every completion of the machine.
  const script = `compdef() { print -r -- "$@"; }
${completionScript(program, 'zsh')}
emulate sh; setopt kshglob noshglob braceexpand
COMP_WORDS=(tool "$@"); COMP_CWORD=$#
setopt ksharrays; _tool; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return spawnSync('zsh', ['-f', '-c', script, 'zsh', ...words], { encoding: 'utf8' });
}

describe('completion in zsh', () => {
  it('offers what bash offers', (context) => {
    const first = completeInZsh('');
    context.skip(first.error !== undefined, 'zsh is not installed');
    const lines = (words: string[]) =>
      completeInZsh(...words)
        .stdout.trim()
        .split('\n');
    expect(first.stderr).toBe('');
    expect(lines([''])).toEqual([expect.stringContaining('_tool'), 'delta', 'serve']);
    expect(lines(['delta', '']).slice(1)).toEqual(['create', 'apply']);
    // zsh itself leaves out what does not begin with what was typed.
    expect(lines(['serve', '--c']).slice(1)).toEqual(['--config', '--json', '--help']);
  });
});

describe('completion in other shells', () => {
  it('is valid fish where fish is', (context) => {
    const fish = completionScript(program, 'fish');
    expect(fish).toContain("-a create -d 'Make a delta; don\\'t wait.'");
    const found = spawnSync('fish', ['--no-execute'], { input: fish });
    context.skip(found.error !== undefined, 'fish is not installed');
    expect(found.status).toBe(0);
  });

  it('refuses a shell that it does not know', () => {
    expect(() => completionScript(program, 'csh')).toThrow('no completion for csh');
  });
});

describe('the manual page', () => {
  it('names commands, options, exit statuses and codes, without warnings of man', (context) => {
    const source = manPage(program, {
      section: 8,
      description: 'First.\n\n.Second with a - dash.',
      files: [['/etc/tool', 'configuration']],
      environment: [],
      seeAlso: ['podman(1)'],
    });
    expect(source).toContain('.SS tool delta create');
    expect(source).toContain('\\&.Second with a \\- dash.');
    const found = spawnSync('man', ['--warnings', '-l', '-'], {
      input: source,
      encoding: 'utf8',
      env: { ...process.env, MANWIDTH: '80', LC_ALL: 'C.UTF-8' },
    });
    context.skip(found.error !== undefined, 'man is not installed');
    expect(found.stderr).toBe('');
    expect(found.stdout).toMatch(/SIGNATURE_MISSING \(3\)/);
  });
});
