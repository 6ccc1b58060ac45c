import { describe, expect, it } from 'vitest';
import { TextList } from '../../../gateway/delta/text-list.ts';

describe('TextList', () => {
  it('keeps texts of all lengths and bytes', () => {
    const texts = ['', 'a', '\xff\x00\n', 'x'.repeat(65_535)];
    // Beyond one block of memory.
    for (let i = 0; i < 1000; i += 1) texts.push(`${i}`.repeat(1 + (i % 900)));
    const list = new TextList();
    for (const text of texts) list.push(text);
    expect(list.length).toBe(texts.length);
    expect([...list]).toEqual(texts);
    expect(() => list.push('x'.repeat(65_536))).toThrow(RangeError);
  });
});
