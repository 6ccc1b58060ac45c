import { describe, expect, it } from 'vitest';
import { parseOptions } from './options.ts';

const KNOWN = new Map([
  ['small', 'a small pair'],
  ['large', 'a large pair'],
]);

describe('the options of the delta bench', () => {
  it('prints a help that names options and pairs', () => {
    const parsed = parseOptions(['--help', 'small'], KNOWN);
    expect(parsed).toMatchObject({ status: 0 });
    expect(parsed).toHaveProperty('text', expect.stringMatching(/--cache DIR .*a large pair/s));
  });

  it.each([
    ['--nope', '--nope'],
    ['smal', 'no such pair: smal; there are: small, large'],
    ['--peer=diff', 'no such tool: diff'],
    ['--back=-1', '--back must be'],
    ['--back=2', '--cache'],
    ['--peers --ours', 'nothing to measure'],
  ])('refuses %s and says why', (words, message) => {
    const parsed = parseOptions(words.split(' '), KNOWN);
    expect(parsed).toMatchObject({ status: 2, text: expect.stringContaining(message) });
  });

  it('takes older releases in a cache of their own', () => {
    const parsed = parseOptions(['--back', '2', '--cache', '/older', '--quick', 'large'], KNOWN);
    expect(parsed).toMatchObject({
      options: { back: 2, cache: '/older', isQuick: true, pairs: ['large'] },
    });
  });
});
