import { constants, zstdDecompressSync } from 'node:zlib';
import { simpleUnxz } from './simple-lzma.ts';

/** The container of a layer delta for the simple reader (FORMAT.md sections 2 to 4). */
export class Bytes {
  readonly all: Buffer;
  at = 0;
  constructor(all: Buffer) {
    this.all = all;
  }
  byte(): number {
    return this.take(1)[0] as number;
  }
  take(count: number): Buffer {
    if (this.at + count > this.all.length) throw new Error('cut off');
    this.at += count;
    return this.all.subarray(this.at - count, this.at);
  }
  number(): number {
    let value = 0n;
    for (let i = 0n; i < 8n; i += 1n) {
      const byte = this.byte();
      value |= BigInt(byte & 127) << (7n * i);
      if (byte >= 128) continue;
      if (byte === 0 && i > 0n) throw new Error('not the shortest form');
      if (value > 2n ** 53n - 1n) break;
      return Number(value);
    }
    throw new Error('number too large');
  }
  signed(): number {
    const u = this.number();
    return u % 2 === 0 ? u / 2 : -(u + 1) / 2;
  }
}

export type Segment = { checkpoint?: { output: number; pointer: number }; streams: Buffer[] };
type Coder = { coder: number; parameter: number };
export type Header = {
  size: number;
  digest: string;
  limits: number[];
  layers: string[];
  coders: Coder[];
};

export function readHeader(b: Bytes): Header {
  if (b.number() !== 0) throw new Error('flags');
  const size = b.number();
  const digest = b.take(32).toString('hex');
  const limits = Array.from({ length: 4 }, () => b.number());
  if ((limits[0] as number) > 16777216) throw new Error('segment limit');
  const layers = Array.from({ length: b.number() }, () => b.take(32).toString('hex'));
  const coders = Array.from({ length: 8 }, () => ({ coder: b.byte(), parameter: b.byte() }));
  const isKnown = ({ coder, parameter }: Coder) =>
    coder === 0 ? parameter === 0 : coder <= 2 && parameter >= 10 && parameter <= 27;
  if (!coders.every(isKnown) || layers.length > 1024) throw new Error('coder or layers');
  if (b.at !== b.all.length) throw new Error('header too long');
  return { size, digest, limits, layers, coders };
}

/** Which streams a segment has, with their unpacked lengths and what is said of their packed ones. */
function readSizes(b: Bytes, header: Header) {
  const bits = b.byte();
  const present = [0, 1, 2, 3, 4, 5, 6, 7].filter((i) => (bits >> i) & 1);
  const lengths = present.map(() => b.number());
  const sizes = present.map(() => b.number());
  const total = lengths.reduce((sum, length) => sum + length, 0);
  if (total > (header.limits[0] as number)) throw new Error('segment too large');
  return { present, lengths, sizes };
}

function unpack({ coder, parameter }: Coder, packed: Buffer): Buffer {
  if (coder === 0) throw new Error('coder');
  if (coder === 2) return simpleUnxz(packed);
  return zstdDecompressSync(packed, {
    finishFlush: constants.ZSTD_e_flush,
    params: { [constants.ZSTD_d_windowLogMax]: parameter },
  });
}

export function readSegments(b: Bytes, header: Header): Segment[] {
  const segments: Segment[] = [];
  // Where each stream's packed bytes since the last checkpoint belong.
  let packed = header.coders.map(() => ({
    bytes: [] as Buffer[],
    places: [] as [Segment, number][],
  }));
  const unpackAll = () => {
    for (const [i, { bytes, places }] of packed.entries()) {
      if (bytes.length === 0) continue;
      const all = unpack(header.coders[i] as Coder, Buffer.concat(bytes));
      let at = 0;
      for (const [segment, length] of places) {
        if (at + length > all.length) throw new Error('too little');
        segment.streams[i] = all.subarray(at, at + length);
        at += length;
      }
      if (at !== all.length) throw new Error('too much');
    }
    packed = header.coders.map(() => ({ bytes: [], places: [] }));
  };
  for (;;) {
    const kind = b.byte();
    if (kind === 0) break;
    if (kind > 2) throw new Error('kind');
    const segment: Segment = { streams: header.coders.map(() => Buffer.alloc(0)) };
    if (kind === 2) {
      unpackAll();
      segment.checkpoint = { output: b.number(), pointer: b.number() };
    }
    const { present, lengths, sizes } = readSizes(b, header);
    for (const [n, i] of present.entries()) {
      const size = sizes[n] as number;
      const length = lengths[n] as number;
      const bytes = b.take(Math.floor(size / 2));
      if (length === 0 || (size % 2 === 1 && bytes.length !== length)) throw new Error('length');
      if (size % 2 === 1) segment.streams[i] = bytes;
      else {
        packed[i]?.bytes.push(bytes);
        packed[i]?.places.push([segment, length]);
      }
    }
    segments.push(segment);
  }
  unpackAll();
  if (b.at !== b.all.length) throw new Error('trailing bytes');
  return segments;
}
