import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  covers,
  formatName,
  formatNote,
  nameOfNote,
  parseFormatName,
} from '../../../shared/delta/formats.ts';
import {
  commonRecompression,
  coversRecompression,
  ENCODER_SET,
  formatRecompression,
  LZMA_VERSION,
  memoryTier,
  parseRecompression,
  type Recompression,
} from '../../../shared/delta/machine-class.ts';
import { createEncoders } from '../../../shared/recompress/encoders.ts';
import { loadLiblzma } from '../../../shared/recompress/xz/liblzma.ts';

const version = fc.constantFrom('1.5.4', '1.5.6', '1.5.7');
const machines: fc.Arbitrary<Recompression> = fc.record(
  {
    set: fc.constantFrom(1, 2),
    memory: fc.integer({ min: 0, max: 5000 }),
    lzma: fc.constantFrom('5.8.4', '5.9.0'),
    zstd: version,
    program: version,
  },
  { requiredKeys: ['set', 'memory', 'lzma'] },
);

describe('a class of machines', () => {
  it('is written and read in one way only', () => {
    fc.assert(
      fc.property(machines, (machine) => {
        expect(parseRecompression(formatRecompression(machine))).toEqual(machine);
        const format = { kind: 'snapgate', recompress: machine } as const;
        expect(parseFormatName(formatName(format))).toEqual(format);
        expect(nameOfNote(formatNote(format))).toBe(formatName(format));
      }),
    );
    for (const text of [
      '',
      'recompress',
      'recompress=01;memory=128;lzma=5.8.4',
      'recompress=1;memory=128;lzma=5.8.4;program=1.5.4;zstd=1.5.7',
      'recompress=1;memory=128;lzma=5.8.4;zstd=1.5.7\n',
      'recompress=1;memory=128;lzma=5.8.4;',
    ]) {
      expect(parseRecompression(text), text).toBeUndefined();
    }
  });

  it('reads what was made for what it has in common with a gateway', () => {
    fc.assert(
      fc.property(machines, machines, (machine, maker) => {
        const common = commonRecompression(machine, maker);
        if (common === undefined) return;
        expect(coversRecompression(machine, common)).toBe(true);
        expect(commonRecompression(common, maker)).toEqual(common);
      }),
    );
  });

  it('reads less, and nothing of another kind', () => {
    const recompress = { set: 1, memory: 128, lzma: '5.8.4' };
    const own = { kind: 'snapgate', recompress } as const;
    expect(covers(own, { kind: 'snapgate' })).toBe(true);
    expect(covers({ kind: 'snapgate' }, own)).toBe(false);
    expect(covers(own, { kind: 'tar-diff' })).toBe(false);
    expect(covers({ kind: 'tar-diff' }, { kind: 'tar-diff' })).toBe(true);
  });

  it('affords one of a few amounts of memory', () => {
    const found = [0, 31, 32, 200, 1023, 1024, 1e6].map(memoryTier);
    expect(found).toEqual([0, 0, 32, 128, 256, 1024, 1024]);
  });
});

describe('the encoders that come with Snapgate', () => {
  it('are those that the number of their set stands for', () => {
    // Whoever adds one, or changes what one writes or takes, raises ENCODER_SET and notes it here.
    const own = [...createEncoders().keys()].filter((name) => !/^zstd-\d/.test(name));
    const names = ['gnu-gzip', 'zlib', 'xz', 'lz4hc', 'zstd-lazy-1.5.4', 'zstd-parse'];
    expect([ENCODER_SET, own]).toEqual([4, names]);
  });

  it('have the liblzma whose version classes name', async () => {
    const lzma = await loadLiblzma();
    const at = lzma._lzma_version_string();
    const end = lzma.HEAPU8.indexOf(0, at);
    expect(Buffer.from(lzma.HEAPU8.slice(at, end)).toString('latin1')).toBe(LZMA_VERSION);
  });

  it('have the zstd of Node.js under its version', () => {
    expect(createEncoders().has(`zstd-${process.versions.zstd}`)).toBe(true);
  });

  it('take no rounding of fractions that processors may do differently', () => {
    // The one place with fractions is the table of zstd's costs, which rounds logarithms down. That
    // what comes out is the same on arm64 is seen by running known-digests.test.ts there.
    for (let p = 1; p < 256; p += 1) {
      const bits = -Math.log2(p / 256) * 256;
      const isPower = (p & (p - 1)) === 0;
      if (!isPower) expect(Math.abs(bits - Math.round(bits)), String(p)).toBeGreaterThan(1e-9);
      else expect(Number.isInteger(bits)).toBe(true);
    }
  });
});
