import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { type Command, type Program, runProgram } from '../../../shared/cli/command.ts';
import { SnapgateError } from '../../../shared/errors.ts';

const make: Command = {
  name: 'thing make',
  summary: 'Make a thing',
  arguments: 'NAME',
  options: {
    from: { type: 'string', required: true, value: 'FILE', help: 'what it is made of' },
    key: { type: 'string', required: true, multiple: true, value: 'FILE', help: 'who may' },
    size: { type: 'string', value: 'N', help: 'how large' },
  },
  run: async ({ options }) => {
    if (options.size === 'odd') throw new SnapgateError('USAGE', 'an odd size');
    if (options.size === 'bad') throw new SnapgateError('USAGE', 'a bad size', { hint: 'Try 1.' });
    return options;
  },
};
const show: Command = { ...make, name: 'thing show', options: {} };
const program: Program = {
  ...{ name: 'prog', version: '1.2.3', summary: 'does things', commands: [make, show] },
};
const GOOD = ['thing', 'make', 'x', '--from', 'f', '--key', 'k'];

/** Runs the program and gives its status and all that it printed. */
async function run(...argv: string[]) {
  let text = '';
  const into = () =>
    new Writable({
      write(chunk, _encoding, done) {
        text += chunk;
        done();
      },
    });
  const io = { out: into(), err: into() };
  const status = await runProgram(program, argv, io, AbortSignal.timeout(60_000));
  return { status, text };
}

describe('a program', () => {
  it.each([['--help'], ['-h'], ['help']])('lists its commands for %s', async (word) => {
    const { status, text } = await run(word);
    expect([status, text]).toEqual([0, expect.stringContaining('thing make  Make a thing')]);
  });

  it.each([
    ['thing', 'make', '--help'],
    ['thing', 'make', '-h'],
    ['help', 'thing', 'make'],
  ])('explains a command for %s %s %s', async (...argv) => {
    const { status, text } = await run(...argv);
    expect(status).toBe(0);
    expect(text).toContain('Usage: prog thing make NAME --from FILE --key FILE [OPTIONS]\n');
  });

  it('says which commands begin with a word', async () => {
    expect(await run('thing', 'mak')).toEqual({
      status: 2,
      text:
        'prog: USAGE: unknown command: thing mak\n' +
        'prog: There are: prog thing make, prog thing show.\n',
    });
    const { text } = await run('nothing', 'make');
    expect(text).toBe('prog: USAGE: unknown command: nothing\nprog: Run prog --help.\n');
  });

  it('names all options that are missing', async () => {
    expect(await run('thing', 'make', 'x')).toEqual({
      status: 2,
      text: 'prog: USAGE: --from, --key are missing\nprog: Run prog thing make --help.\n',
    });
    const { text } = await run(...GOOD.slice(0, 5));
    expect(text).toContain('USAGE: --key is missing\n');
    expect((await run(...GOOD)).status).toBe(0);
  });

  it('has a next step for wrong arguments, the command’s own where it knows one', async () => {
    const odd = await run(...GOOD, '--size', 'odd');
    expect(odd.text).toBe('prog: USAGE: an odd size\nprog: Run prog thing make --help.\n');
    const bad = await run(...GOOD, '--size', 'bad');
    expect(bad.text).toBe('prog: USAGE: a bad size\nprog: Try 1.\n');
    const unknown = await run(...GOOD, '--sise', '1');
    expect(unknown.text).toBe(
      "prog: USAGE: Unknown option '--sise'\nprog: Run prog thing make --help.\n",
    );
  });
});
