import { gunzipSync } from 'node:zlib';
import { FILTER } from '../../shared/delta/layer-delta/branch-filter.ts';
import { ByteReader, ByteWriter } from '../../shared/delta/layer-delta/bytes.ts';
import { ContentWriter } from '../../shared/delta/layer-delta/content-writer.ts';
import { splitRecords } from '../../shared/delta/layer-delta/entry-writer.ts';
import {
  DEFAULT_LAYER_DELTA_LIMITS,
  encodeHeader,
  LAYER_DELTA_MAGIC,
  type LayerDeltaHeader,
  parseLayerDeltaHeader,
  STREAMS,
} from '../../shared/delta/layer-delta/header.ts';
import { AddressMap, MODE } from '../../shared/delta/layer-delta/prediction.ts';
import { createRecompressor } from '../../shared/delta/layer-delta/recompressor.ts';
import { SegmentReader } from '../../shared/delta/layer-delta/segment-reader.ts';
import { SourceEntries } from '../../shared/delta/layer-delta/source-entries.ts';
import { sha256 } from '../../shared/digest.ts';
import { createEncoders, repack } from '../../shared/recompress/encoders.ts';
import { parseRecipe } from '../../shared/recompress/recipe.ts';
import { collect, contentIn } from './bytes.ts';
import { headerStreamOf, type MemorySource, memoryTree, writeLayerDelta } from './layer-delta.ts';
import type { SimpleSource } from './simple-state.ts';
import { tarOf } from './tar-of.ts';

/** The simple reader knows one recipe, for one content. */
export const NOT_TRIED = 'not tried';
const RECIPE = 'gnu-gzip level=9 frame=1f8b0800000000000203';
const GZIP = 1;

/** Bytes that look random and are always the same. */
export function noise(size: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(size);
  let state = seed;
  for (let i = 0; i < size; i += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) | 0;
    bytes[i] = state >>> 16;
  }
  return bytes;
}

async function gzip(content: Buffer): Promise<Buffer> {
  return collect(repack(createEncoders(), parseRecipe(RECIPE), contentIn(content)));
}

export type SampleDelta = {
  readonly delta: Buffer;
  readonly source: MemorySource;
  readonly simple: SimpleSource;
  readonly target: Buffer;
};

/**
 * A delta that uses every command and operation there is; with a checkpoint before each entry, where
 * one may be.
 */
export async function sampleLayerDelta(checkpoints = false): Promise<SampleDelta> {
  const text = Buffer.from('what is said in a manual page, again and again. '.repeat(40));
  const fresh = Buffer.from(text.toString().replace('manual', 'new'));
  const packed = await gzip(text);
  const repacked = await gzip(fresh);
  const program = noise(5000, 7).map((byte, i) => (i % 9 === 0 ? 0xe8 : byte)) as Buffer;
  const long = `usr/share/${'long/'.repeat(25)}name`;
  const old = tarOf([
    { name: 'a', content: noise(3000) },
    { name: 'bin/prog-1.0', content: program },
    { name: 'doc/page.gz', content: packed },
    { name: 'gone', content: noise(10) },
    { name: long, content: noise(700, 3) },
    { name: 'link', type: 'symlink', linkName: 'bin/prog-1.0' },
  ]);
  const layer = sha256(old);
  const source: MemorySource = {
    files: {
      a: noise(3000),
      'bin/prog-1.0': program,
      'doc/page.gz': packed,
      gone: noise(10),
      [long]: noise(700, 3),
    },
    headers: new Map([[layer, await headerStreamOf(old)]]),
  };
  const map = {
    source: [{ offset: 0, length: 5000, address: 4096 }],
    content: [{ offset: 0, length: 5000, address: 8192 }],
    starts: Float64Array.of(0, 2000, 3000),
    shifts: Float64Array.of(0, 16, -8),
  };
  const guess = Buffer.from(program);
  const machineCode = noise(100, 9);
  // BL and ADRP.
  for (const at of [72, 84]) machineCode.writeUInt32LE(0x94000010, at);
  for (const at of [76, 92]) machineCode.writeUInt32LE(0xb0000123, at);
  new AddressMap(map).predict(MODE.X86_64, guess, program, 0, 0);
  const newProgram = guess.map((byte, i) => (i % 500 === 0 ? byte ^ 1 : byte)) as Buffer;
  const target = tarOf([
    { name: 'a', content: noise(3000) },
    { name: 'bin/prog-1.1', content: newProgram },
    { name: 'doc/page.gz', content: repacked },
    { name: long, content: noise(700, 3), mtime: 5 },
    { name: 'link', type: 'symlink', linkName: 'bin/prog-1.1' },
    { name: 'new', content: Buffer.concat([machineCode, noise(3000).subarray(500, 900)]) },
  ]);
  const headers = await memoryTree(source).openHeaders?.(layer);
  const entries = new SourceEntries(headers === undefined ? [] : [headers], 100);
  const records = (name: string) => {
    const at = Math.floor(target.indexOf(name) / 512) * 512;
    return splitRecords(target.subarray(at, at + 512));
  };
  const reference = (index: number) => ({ index, entry: entries.at(index) });
  const delta = await writeLayerDelta(target, [layer], async (writer) => {
    const checkpoint = async (name: string) => {
      if (checkpoints) await writer.checkpoint(Math.floor(target.indexOf(name) / 512) * 512);
    };
    await checkpoint('a');
    writer.keep(1);
    await checkpoint('bin/prog-1.1');
    writer.entry(records('bin/prog-1.1') ?? [], reference(1));
    const code = new ContentWriter(1);
    code.map(0, map);
    code.addPredicted(0, 0, MODE.X86_64, guess, newProgram);
    await writer.content([], code.finish());
    await checkpoint('doc/page.gz');
    const page = { kind: 'entry', index: 2 } as const;
    const all = { offset: 0, length: packed.length };
    const unpacked = writer.unpack(page, all, GZIP, text.length, 1 << 20);
    const built = new ContentWriter(1);
    const at = text.indexOf('manual');
    built.copy(0, 0, at);
    built.literal(Buffer.from('new'));
    built.copy(0, at + 6, text.length - at - 6);
    const part = await writer.build(
      fresh.length,
      [{ kind: 'part', part: unpacked }],
      built.finish(),
    );
    // Not here, where a part lives.
    await checkpoint('doc/page.gz');
    const again = writer.encode(part, Buffer.from(RECIPE), repacked.length, 1 << 20);
    writer.free(part);
    writer.free(unpacked);
    writer.entry(records('doc/page.gz') ?? [], reference(2));
    const whole = new ContentWriter(2);
    whole.copy(1, 0, repacked.length);
    await writer.content([{ kind: 'part', part: again }], whole.finish());
    writer.free(again);
    await checkpoint('PaxHeaders.0');
    // The long name and its pax header, then an entry that nothing is known of.
    const longAt = target.indexOf('PaxHeaders.0');
    const raw = target.subarray(longAt, longAt + 3 * 512);
    writer.entry(splitRecords(raw) ?? [], reference(4));
    writer.wholeSource();
    await checkpoint('link');
    writer.entry(records('link') ?? [], reference(5));
    await checkpoint('new');
    const content = new ContentWriter(2);
    content.literal(machineCode.subarray(0, 40));
    content.literal(machineCode.subarray(40, 72), FILTER.X86_64, 40);
    content.literal(machineCode.subarray(72), FILTER.ARM64, 72);
    const piece = noise(3000).subarray(500, 900);
    content.add(
      1,
      500,
      piece.map((byte) => byte),
      piece,
    );
    writer.entry(records('new') ?? []);
    await writer.content([{ kind: 'file', path: 'a' }], content.finish());
    await writer.literal(Buffer.alloc(1024));
  });
  const simple = {
    files: source.files,
    headers: Object.fromEntries([[layer.slice(7), source.headers?.get(layer) ?? Buffer.alloc(0)]]),
    unpack: (method: number, bytes: Buffer) => {
      if (method !== GZIP) throw new Error('method');
      return gunzipSync(bytes);
    },
    encode: (recipe: Buffer, content: Buffer) => {
      if (recipe.toString() !== RECIPE || !content.equals(fresh)) throw new Error(NOT_TRIED);
      return repacked;
    },
  };
  return { delta, source, simple, target };
}

export const sampleOptions = { recompressor: createRecompressor({ maxMemoryBytes: 1 << 28 }) };

/** The same delta with other fields in its header. */
export function withHeader(delta: Buffer, change: Partial<LayerDeltaHeader>): Buffer {
  const reader = new ByteReader(delta.subarray(LAYER_DELTA_MAGIC.length));
  const fields = reader.bytes(reader.number());
  const body = reader.bytes(reader.left);
  return Buffer.concat([encodeHeader({ ...parseLayerDeltaHeader(fields), ...change }), body]);
}

/** The unpacked streams of a delta of one segment. */
export async function streamsOf(delta: Buffer): Promise<Buffer[]> {
  async function* chunks() {
    yield delta;
  }
  const segments = new SegmentReader(chunks(), DEFAULT_LAYER_DELTA_LIMITS);
  await segments.next();
  const streams = STREAMS.map((name) => {
    const stream = segments.streams[name];
    return Buffer.from(stream.bytes(stream.left));
  });
  await segments.close();
  return streams;
}

/** A delta of one segment whose streams are stored, behind the header of another. */
export function withStreams(delta: Buffer, streams: readonly Uint8Array[]): Buffer {
  const reader = new ByteReader(delta.subarray(LAYER_DELTA_MAGIC.length));
  reader.bytes(reader.number());
  const header = delta.subarray(0, delta.length - reader.left);
  const body = new ByteWriter();
  body.byte(2);
  body.number(0);
  body.number(0);
  body.byte(streams.reduce((bits, bytes, i) => bits | (bytes.length > 0 ? 1 << i : 0), 0));
  const present = streams.filter((bytes) => bytes.length > 0);
  for (const bytes of present) body.number(bytes.length);
  for (const bytes of present) body.number(2 * bytes.length + 1);
  for (const bytes of present) body.bytes(bytes);
  body.byte(0);
  return Buffer.concat([header, body.view()]);
}
