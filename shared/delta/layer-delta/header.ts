import { type Digest, digestFromHex, digestHex } from '../../digest.ts';
import { SnapgateError } from '../../errors.ts';
import { ByteReader, ByteWriter, invalidDelta } from './bytes.ts';

/** The first bytes of a layer delta. */
export const LAYER_DELTA_MAGIC = Buffer.from('sgdelta1', 'latin1');

/** The streams in their order (FORMAT.md section 4). */
export const STREAMS = [
  'commands',
  'operations',
  'lengths',
  'seeks',
  'runs',
  'differences',
  'literals',
  'text',
] as const;
export type StreamName = (typeof STREAMS)[number];

/** How the bytes of a stream are packed. */
export const CODER = { STORED: 0, ZSTD: 1, XZ: 2 } as const;
export type StreamCoder = { readonly coder: number; readonly parameter: number };

/** The header of a layer delta (FORMAT.md section 3.1). Sizes are bytes. */
export type LayerDeltaHeader = {
  readonly outputSize: number;
  /** sha256 of the rebuilt tar stream: the layer's diff_id. */
  readonly outputDigest: Digest;
  readonly segmentLimit: number;
  readonly temporaryLimit: number;
  readonly partLimit: number;
  readonly encoderMemory: number;
  /** diff_ids of the layers whose headers are used. */
  readonly sourceLayers: readonly Digest[];
  /** One for each of {@link STREAMS}. */
  readonly coders: readonly StreamCoder[];
};

/** What is accepted from a layer delta. Sizes are bytes. */
export type LayerDeltaLimits = {
  readonly maxOutputBytes: number;
  readonly maxSegmentBytes: number;
  readonly maxTemporaryBytes: number;
  readonly maxParts: number;
  /** For one encoder or decoder of compressed content. */
  readonly maxEncoderBytes: number;
  /** Base-2 logarithm of the largest window of a stream. */
  readonly maxWindowLog: number;
  /** Entries of all source layers together. */
  readonly maxSourceEntries: number;
};

export const DEFAULT_LAYER_DELTA_LIMITS: LayerDeltaLimits = {
  maxOutputBytes: 64 * 1024 ** 3,
  maxSegmentBytes: 8 * 1024 * 1024,
  maxTemporaryBytes: 4 * 1024 ** 3,
  maxParts: 65_536,
  maxEncoderBytes: 1024 ** 3,
  maxWindowLog: 23,
  maxSourceEntries: 10_000_000,
};

/** Limits of the format itself. */
export const MAX_HEADER_BYTES = 65_536;
export const MAX_SEGMENT_BYTES = 16 * 1024 * 1024;
const MAX_SOURCE_LAYERS = 1024;

export function encodeHeader(header: LayerDeltaHeader): Buffer {
  const fields = new ByteWriter();
  fields.number(0);
  fields.number(header.outputSize);
  fields.bytes(Buffer.from(digestHex(header.outputDigest), 'hex'));
  fields.number(header.segmentLimit);
  fields.number(header.temporaryLimit);
  fields.number(header.partLimit);
  fields.number(header.encoderMemory);
  fields.number(header.sourceLayers.length);
  for (const layer of header.sourceLayers) fields.bytes(Buffer.from(digestHex(layer), 'hex'));
  for (const { coder, parameter } of header.coders) {
    fields.byte(coder);
    fields.byte(parameter);
  }
  const length = new ByteWriter();
  length.number(fields.length);
  return Buffer.concat([LAYER_DELTA_MAGIC, length.view(), fields.view()]);
}

/** Parses the fields of a header, without magic number and length. Throws DELTA_INVALID. */
export function parseLayerDeltaHeader(bytes: Uint8Array): LayerDeltaHeader {
  const fields = new ByteReader(bytes);
  if (fields.number() !== 0) throw invalidDelta('the delta uses what this reader does not know');
  const header = {
    outputSize: fields.number(),
    outputDigest: readDigest(fields),
    segmentLimit: fields.number(),
    temporaryLimit: fields.number(),
    partLimit: fields.number(),
    encoderMemory: fields.number(),
    sourceLayers: readLayers(fields),
    coders: STREAMS.map(() => readCoder(fields)),
  };
  if (header.segmentLimit > MAX_SEGMENT_BYTES) throw invalidDelta('segments are too large');
  if (fields.left > 0) throw invalidDelta('the header of the delta is too long');
  return header;
}

function readDigest(fields: ByteReader): Digest {
  return digestFromHex(Buffer.from(fields.bytes(32)).toString('hex'));
}

function readLayers(fields: ByteReader): Digest[] {
  const count = fields.number();
  if (count > MAX_SOURCE_LAYERS) throw invalidDelta('the delta names too many source layers');
  return Array.from({ length: count }, () => readDigest(fields));
}

function readCoder(fields: ByteReader): StreamCoder {
  const coder = fields.byte();
  const parameter = fields.byte();
  const known =
    (coder === CODER.STORED && parameter === 0) ||
    ((coder === CODER.ZSTD || coder === CODER.XZ) && parameter >= 10 && parameter <= 27);
  if (!known) throw invalidDelta(`the delta uses the unknown coder ${coder} (${parameter})`);
  return { coder, parameter };
}

/** Compares what a delta declares with what is allowed. Throws LIMIT_EXCEEDED. */
export function checkHeader(header: LayerDeltaHeader, limits: LayerDeltaLimits): void {
  const check = (what: string, value: number, limit: number) => {
    if (value <= limit) return;
    throw new SnapgateError('LIMIT_EXCEEDED', `the delta needs too much: ${what}`, {
      where: `${value}, at most ${limit} are allowed`,
      hint: 'Another delta may need less; the full image can be fetched.',
    });
  };
  check('bytes of output', header.outputSize, limits.maxOutputBytes);
  check('bytes of a segment', header.segmentLimit, limits.maxSegmentBytes);
  check('temporary bytes', header.temporaryLimit, limits.maxTemporaryBytes);
  check('parts', header.partLimit, limits.maxParts);
  check('bytes of memory for an encoder', header.encoderMemory, limits.maxEncoderBytes);
  for (const { coder, parameter } of header.coders) {
    if (coder !== CODER.STORED) check('window log', parameter, limits.maxWindowLog);
  }
}
