import { ByteWriter } from '../../shared/delta/layer-delta/bytes.ts';
import { LAYER_DELTA_MAGIC } from '../../shared/delta/layer-delta/header.ts';
import { digestHex, sha256 } from '../../shared/digest.ts';
import { applyInMemory } from './layer-delta.ts';
import { type SampleDelta, sampleOptions } from './sample-layer-delta.ts';
import { simpleApply } from './simple-layer-delta-reader.ts';

export type Bytes = readonly number[] | Uint8Array;

/** Numbers as the format writes them. */
export function numbers(...values: readonly number[]): Uint8Array {
  const out = new ByteWriter();
  for (const value of values) out.number(value);
  return out.take();
}

/** Bytes one after the other. */
export function join(...parts: readonly Bytes[]): Buffer {
  return Buffer.concat(parts.map((part) => Uint8Array.from(part)));
}

/** What a header says where it is not the usual. */
export type Header = {
  readonly flags?: number;
  readonly size?: number;
  readonly segmentLimit?: number;
  readonly temporary?: number;
  readonly parts?: number;
  readonly layers?: number;
  readonly coder?: readonly [number, number];
  readonly more?: number;
};

const EMPTY = sha256(Buffer.alloc(0));

/** The fields of a header, and `more` bytes behind them. */
export function headerOf(header: Header, output: Uint8Array = Buffer.alloc(0)): Buffer {
  const { flags = 0, size = output.length, segmentLimit = 4 * 1024 ** 2 } = header;
  const { temporary = 1e6, parts = 100, layers = 0, coder = [1, 20], more = 0 } = header;
  const fields = join(
    numbers(flags, size),
    Buffer.from(digestHex(output.length === 0 ? EMPTY : sha256(output)), 'hex'),
    numbers(segmentLimit, temporary, parts, 0, layers),
    Buffer.alloc(32 * layers, 1),
    ...Array.from({ length: 8 }, () => coder),
    Buffer.alloc(more),
  );
  return join(LAYER_DELTA_MAGIC, numbers(fields.length), fields);
}

/** A segment; stored streams by their numbers. */
export function segment(start: Bytes, streams: Readonly<Record<number, Bytes>> = {}): Buffer {
  const present = Object.entries(streams).map(([i, bytes]) => [Number(i), bytes] as const);
  return join(
    start,
    [present.reduce((bits, [i]) => bits | (1 << i), 0)],
    ...present.map(([, bytes]) => numbers(bytes.length)),
    ...present.map(([, bytes]) => numbers(2 * bytes.length + 1)),
    ...present.map(([, bytes]) => bytes),
  );
}

/** The start of the first segment, and the end of a delta. */
export const START = [2, 0, 0];
export const END = [0];

/** A whole delta of one segment that makes `output` bytes. */
export function whole(
  streams: Readonly<Record<number, Bytes>>,
  header: Header = {},
  output: Uint8Array = Buffer.alloc(0),
): Buffer {
  return join(headerOf(header, output), segment(START, streams), END);
}

/** How the real reader ends: `accepted`, or the code of its error. */
export async function endOf(delta: Buffer, { source }: SampleDelta): Promise<string> {
  try {
    await applyInMemory(delta, source, sampleOptions);
    return 'accepted';
  } catch (thrown) {
    return (thrown as { code?: string }).code ?? String(thrown);
  }
}

/** As {@link endOf}; throws where the simple reader does not take and refuse the same. */
export async function judge(delta: Buffer, sample: SampleDelta): Promise<string> {
  const code = await endOf(delta, sample);
  const simple = simpleEndOf(delta, sample);
  if (simple === (code === 'accepted' ? 'accepted' : 'refused')) return code;
  throw new Error(`the reader ends with ${code}, the simple one with ${simple}`);
}

/** How the simple reader ends: `accepted` or `refused`. */
function simpleEndOf(delta: Buffer, { simple }: SampleDelta): string {
  try {
    simpleApply(delta, simple);
    return 'accepted';
  } catch {
    return 'refused';
  }
}
