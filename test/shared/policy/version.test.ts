import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareVersions, parseVersion, type Version } from '../../../shared/policy/version.ts';

const version = (text: string): Version => {
  const read = parseVersion(text);
  if (read === undefined) throw new Error(`no version: ${text}`);
  return read;
};

describe('versions', () => {
  it('are in this order', () => {
    const ascending = [
      ...['0.9', '1.0.0-alpha', '1.0.0-alpha.1', '1.0.0-alpha.beta', '1.0.0-beta.2'],
      ...['1.0.0-beta.11', '1.0.0-rc.1', '1.0.0', 'v1.0.1', '1.9', '1.10', '2', '2.0.0.1'],
      ...['41.20261101.0', '2026.4.1', '2026.11.24', '99999999999999999999.1'],
    ];
    for (let i = 1; i < ascending.length; i += 1) {
      const [a = '', b = ''] = [ascending[i - 1], ascending[i]];
      expect(compareVersions(version(a), version(b)), `${a} < ${b}`).toBeLessThan(0);
      expect(compareVersions(version(b), version(a)), `${b} > ${a}`).toBeGreaterThan(0);
    }
  });

  it('are equal with zeros at the end, a v or a build', () => {
    for (const text of ['1', '1.0', 'v1.0.0', '1.0.0+build.7']) {
      expect(compareVersions(version('1'), version(text)), text).toBe(0);
    }
  });

  it.each(['', 'latest', '1.', '.1', '1..2', '1.x', '1 ', ' 1', '1-', '1\n', `${'9'.repeat(33)}`])(
    'are not %j',
    (text) => expect(parseVersion(text)).toBeUndefined(),
  );

  it('have one order', () => {
    const number = fc.nat({ max: 3 }).map(String);
    const any = fc
      .tuple(
        fc.array(number, { minLength: 1, maxLength: 3 }),
        fc.array(fc.oneof(number, fc.constantFrom('a', 'b')), { maxLength: 2 }),
      )
      .map(([numbers, pre]) => `${numbers.join('.')}${pre.length > 0 ? `-${pre.join('.')}` : ''}`);
    fc.assert(
      fc.property(any, any, any, (a, b, c) => {
        const order = (x: string, y: string) => Math.sign(compareVersions(version(x), version(y)));
        expect(order(a, b)).toBe(-order(b, a) + 0 || 0);
        if (order(a, b) <= 0 && order(b, c) <= 0) expect(order(a, c)).toBeLessThanOrEqual(0);
      }),
    );
  });
});
