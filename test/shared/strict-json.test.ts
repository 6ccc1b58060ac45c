import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseStrictJson } from '../../shared/strict-json.ts';

describe('parseStrictJson', () => {
  it('reads what JSON.parse reads', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
        const text = JSON.stringify(value);
        expect(parseStrictJson(text)).toEqual(JSON.parse(text));
        expect(parseStrictJson(Buffer.from(text))).toEqual(JSON.parse(text));
      }),
    );
  });

  it.each([
    ['{"a":1,"a":2}', 'twice'],
    ['{"a":{"b":1,"c":2,"b":3}}', 'twice'],
    ['[{"x":"{","x":1}]', 'twice'],
    ['{"a":1,"\\u0061":2}', 'twice'],
    ['{"a\\"":1,"a\\"":2}', 'twice'],
    [`${'['.repeat(65)}${']'.repeat(65)}`, 'deeply'],
    ['{"a":1} x', 'JSON'],
    ['', 'JSON'],
  ])('refuses %s', (text, why) => {
    expect(() => parseStrictJson(text)).toThrow(why);
  });

  it('takes one key in several objects, and a value that looks like a key', () => {
    const text = '[{"a":1},{"a":"a","b":{"a":":","c":"{\\"a\\":1,\\"a\\":2}"}}]';
    expect(parseStrictJson(text)).toEqual(JSON.parse(text));
  });

  it('refuses bytes that are not UTF-8, and a byte order mark', () => {
    expect(() => parseStrictJson(Buffer.from([0x22, 0xff, 0x22]))).toThrow('UTF-8');
    expect(() => parseStrictJson(Buffer.from('\ufeff{}'))).toThrow(SyntaxError);
  });
});
