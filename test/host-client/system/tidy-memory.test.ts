import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  buffersPassed,
  keepBuffersSmall,
  letGoOfCode,
  tidily,
} from '../../../host-client/system/tidy-memory.ts';

const isLinux = process.platform === 'linux';

function mappedFileBytes(): number {
  const found = /^RssFile:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'latin1'));
  return Number(found?.[1]) * 1024;
}

describe('tidying up memory', () => {
  it('lets go of code that only starting needed, and goes on', (ctx) => {
    ctx.skip(!isLinux, 'needs /proc');
    // Some of it is needed again at once.
    const before = mappedFileBytes();
    letGoOfCode();
    expect(mappedFileBytes()).toBeLessThan(before - 8 * 1024 * 1024);
    expect(JSON.parse('{"still":"working"}')).toEqual({ still: 'working' });
  });

  it('lets go of it again when enough has passed', (ctx) => {
    ctx.skip(!isLinux, 'needs /proc');
    letGoOfCode();
    // Some of the program is needed, so it is mapped again.
    new Intl.DateTimeFormat('de', { dateStyle: 'full' }).format(new Date(0));
    const before = mappedFileBytes();
    buffersPassed(16 * 1024 * 1024);
    expect(mappedFileBytes()).toBeLessThan(before);
  });

  it('gives freed buffers back at once', (ctx) => {
    ctx.skip(!isLinux, 'needs the GNU C library');
    keepBuffersSmall();
    const before = process.memoryUsage.rss();
    for (let i = 0; i < 64; i += 1) {
      Buffer.allocUnsafeSlow(4 * 1024 * 1024).fill(1);
      buffersPassed(4 * 1024 * 1024);
    }
    expect(process.memoryUsage.rss()).toBeLessThan(before + 64 * 1024 * 1024);
  });

  it('passes everything on in its order', async () => {
    async function* numbers() {
      yield* [1, 2, 3];
    }
    const found: number[] = [];
    for await (const one of tidily(numbers(), () => 8 * 1024 * 1024)) found.push(one);
    expect(found).toEqual([1, 2, 3]);
  });
});
