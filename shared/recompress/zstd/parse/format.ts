import { Collector } from '../../collector.ts';
import type { Format } from '../../format.ts';
import { BLOCK_KIND, MAX_BLOCK } from '../block.ts';
import { damaged } from '../entropy/backward-bits.ts';
import { zstdFormat } from '../format.ts';
import { readZstdHeader, zstdHeaderLength } from '../frame.ts';
import { newBlockParse } from './block-parse.ts';
import { BlockReader } from './read-block.ts';
import { formatRecord } from './records.ts';

/** What recipes call the encoder. */
export const PARSE_ENCODER = 'zstd-parse';
const DESCRIPTOR = 5;
const BLOCK_HEADER = 3;
const CHECKSUM = 4;

/**
 * zstd frames, unpacked to their content and how it was parsed: which matches the encoder chose and
 * with what tables it wrote them. From both the frame can be made again, whatever version of zstd
 * made it and however much memory that took (`shared/delta/FORMAT.md`, section 8.1).
 */
export const zstdParseFormat: Format = {
  name: 'zstd-parse',

  measure: zstdFormat.measure,

  async *unpack(open, limits) {
    yield* zstdFormat.unpack(open, limits);
    let size = 0;
    for (const bytes of parseOf(new Collector(open()))) {
      size += bytes.length;
      yield bytes;
    }
    const length = Buffer.alloc(4);
    length.writeUInt32LE(size);
    yield length;
  },

  propose() {
    return [{ encoder: PARSE_ENCODER, settings: {}, frame: new Uint8Array(0) }];
  },
};

function* parseOf(frame: Collector): Generator<Uint8Array> {
  const start = Buffer.from(frame.take(DESCRIPTOR));
  const rest = frame.take(zstdHeaderLength(start[DESCRIPTOR - 1] ?? 0) - DESCRIPTOR);
  const header = Buffer.concat([start, rest]);
  // One that reads as no header may be too short for it.
  const checksum = readZstdHeader(header)?.checksum;
  if (checksum === undefined) throw damaged();
  yield Uint8Array.of(header.length, ...header);
  const reader = new BlockReader();
  const record = { kind: 0, isLast: false, size: 0, parse: newBlockParse() };
  while (!record.isLast) {
    const block = frame.take(BLOCK_HEADER);
    if (block.length < BLOCK_HEADER) throw damaged();
    const fields = block.readUIntLE(0, BLOCK_HEADER);
    record.isLast = (fields & 1) === 1;
    record.kind = (fields >> 1) & 3;
    record.size = fields >> 3;
    if (record.kind > BLOCK_KIND.COMPRESSED || record.size > MAX_BLOCK) throw damaged();
    record.parse.sequences.size = 0;
    const packed = frame.take(record.kind === BLOCK_KIND.RLE ? 1 : record.size);
    if (record.kind === BLOCK_KIND.COMPRESSED) reader.read(packed, record.parse);
    yield formatRecord(record);
  }
  if (checksum) yield Buffer.from(frame.take(CHECKSUM));
}
