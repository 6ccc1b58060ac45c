import { SnapgateError } from '../../../errors.ts';
import type { Content, Encoder } from '../../encoder.ts';
import { readSettings } from '../../recipe.ts';
import { BLOCK_KIND, blockHeader, MAX_BLOCK } from '../block.ts';
import { contentSize, newBlockParse } from './block-parse.ts';
import { Feed } from './feed.ts';
import { PARSE_ENCODER } from './format.ts';
import { type BlockRecord, MAX_HEAD, MAX_SEQUENCE, readHead, readSequences } from './records.ts';
import { BlockWriter } from './write-block.ts';

const LENGTH = 4;
const MAX_HEADER = 18;
const MIB = 1024 ** 2;

function invalid(): SnapgateError {
  return new SnapgateError('DELTA_INVALID', 'a parse of zstd data does not fit its content');
}

/**
 * Makes a zstd frame again of its content and its parse, as {@link zstdParseFormat} unpacks it.
 * Streams both, a block at a time.
 */
export const zstdParseEncoder: Encoder = {
  name: PARSE_ENCODER,

  cost(recipe) {
    readSettings(recipe, {});
    return { memoryBytes: 8 * MIB, secondsPerMegabyte: 0.025 };
  },

  async *pack(recipe, both) {
    readSettings(recipe, {});
    const parseSize = await readLength(both);
    const split = both.size - LENGTH - parseSize;
    if (split < 0) throw invalid();
    const parse = new Feed(both.open(split), parseSize, invalid);
    const content = new Feed(both.open(), split, invalid);
    try {
      yield* frameOf(parse, content);
    } catch (error) {
      throw error instanceof RangeError ? invalid() : error;
    } finally {
      await parse.close();
      await content.close();
    }
  },
};

async function readLength(both: Content): Promise<number> {
  if (both.size < LENGTH) throw invalid();
  const end = new Feed(both.open(both.size - LENGTH), LENGTH, invalid);
  try {
    await end.want(LENGTH);
    return Buffer.from(end.take(LENGTH)).readUInt32LE();
  } finally {
    await end.close();
  }
}

async function* frameOf(parse: Feed, content: Feed): AsyncGenerator<Uint8Array> {
  await parse.want(1 + MAX_HEADER);
  yield parse.take(parse.byte());
  const writer = new BlockWriter();
  const record = { kind: 0, isLast: false, size: 0, parse: newBlockParse() };
  while (!record.isLast) {
    await parse.want(MAX_HEAD);
    readHead(parse, record);
    await parse.want(MAX_SEQUENCE * record.parse.sequences.size);
    readSequences(parse, record.parse);
    yield await blockOf(record, content, writer);
  }
  await parse.want(LENGTH);
  yield parse.take(parse.left);
  if (content.left > 0) throw invalid();
}

async function blockOf(
  { kind, isLast, size: stored, parse }: BlockRecord,
  content: Feed,
  writer: BlockWriter,
): Promise<Uint8Array> {
  const size = kind === BLOCK_KIND.COMPRESSED ? contentSize(parse) : stored;
  if (size > MAX_BLOCK) throw invalid();
  await content.want(size);
  const bytes = content.take(size);
  const packed =
    kind === BLOCK_KIND.RAW
      ? bytes
      : kind === BLOCK_KIND.RLE
        ? bytes.subarray(0, 1)
        : writer.write(parse, bytes);
  if (packed.length > MAX_BLOCK) throw invalid();
  const said = kind === BLOCK_KIND.RLE ? size : packed.length;
  return Buffer.concat([blockHeader(kind, said, isLast), packed]);
}
