import { describe, expect, it } from 'vitest';
import { openPacker, openUnpacker } from '../../../../shared/delta/layer-delta/coder.ts';
import { CODER } from '../../../../shared/delta/layer-delta/header.ts';

/** Text of few words in an order that looks random and is the same in every run. */
function prose(bytes: number): Buffer {
  let state = 1;
  const next = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const words = Array.from({ length: 5000 }, () => next(2 ** 31).toString(2 + next(34)));
  const text: string[] = [];
  for (let size = 0; size < bytes; ) {
    const word = words[Math.min(next(5000), next(5000))] ?? '';
    text.push(word);
    size += word.length + 1;
  }
  return Buffer.from(text.join(' ')).subarray(0, bytes);
}

async function packed(bytes: Buffer, level: number, windowLog: number): Promise<number> {
  const coder = { coder: CODER.ZSTD, parameter: windowLog };
  const packer = openPacker(coder, level, true);
  const unpacker = openUnpacker(coder);
  let size = 0;
  for (let at = 0; at < bytes.length; at += 500_000) {
    const part = bytes.subarray(at, at + 500_000);
    const made = await packer.pack(part);
    size += made.length;
    expect(part.equals(await unpacker.unpack(made, part.length))).toBe(true);
  }
  packer.close();
  unpacker.close();
  return size;
}

describe('a packer of bulk', () => {
  const bytes = prose(2_000_000);

  it('is quicker below level 19, for a few per cent', async () => {
    const quick = await packed(bytes, 18, 23);
    const thorough = await packed(bytes, 19, 23);
    expect(quick).toBeGreaterThan(thorough);
    expect(quick).toBeLessThan(1.08 * thorough);
  });

  it('is quick for much alone', async () => {
    const few = await packed(bytes, 18, 22);
    expect(few).toBeLessThan(await packed(bytes, 18, 23));
  });
});
