import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ContentWriter } from '../../../../shared/delta/layer-delta/content-writer.ts';
import { splitRecords } from '../../../../shared/delta/layer-delta/entry-writer.ts';
import {
  AddressMap,
  type AddressStretch,
} from '../../../../shared/delta/layer-delta/prediction.ts';
import { SourceEntries } from '../../../../shared/delta/layer-delta/source-entries.ts';
import type { LayerDeltaWriter } from '../../../../shared/delta/layer-delta/writer.ts';
import { type Digest, sha256 } from '../../../../shared/digest.ts';
import type { TarEntry } from '../../../../shared/tar/entry.ts';
import { readTar } from '../../../../shared/tar/reader.ts';
import {
  applyInMemory,
  headerStreamOf,
  type MemorySource,
  memoryTree,
  simpleSource,
  writeLayerDelta,
} from '../../../support/layer-delta.ts';
import { simpleApply } from '../../../support/simple-layer-delta-reader.ts';
import { type TarSpec, tarOf } from '../../../support/tar-of.ts';

/** Both readers, which must agree. */
async function applyBoth(delta: Buffer, source: MemorySource, cut?: number): Promise<Buffer> {
  const found = await applyInMemory(delta, source, {}, cut);
  expect(simpleApply(delta, simpleSource(source)).equals(found)).toBe(true);
  return found;
}

async function sourceOf(tar: Buffer): Promise<MemorySource> {
  const files: Record<string, Buffer> = {};
  const parts = new Map<string, Buffer[]>();
  let path = '';
  for await (const event of readTar(piecesOf(tar))) {
    if (event.kind === 'entry') {
      path = event.entry.path.replace(/^\.?\//, '');
      if (event.entry.type === 'file') parts.set(path, []);
    }
    if (event.kind === 'content') parts.get(path)?.push(Buffer.from(event.piece.bytes));
  }
  for (const [name, bytes] of parts) files[name] = Buffer.concat(bytes);
  return { files, headers: new Map([[sha256(tar), await headerStreamOf(tar)]]) };
}

/** A plain differ: entries against those of the same place, contents byte by byte. */
class OrderDiffer {
  readonly #writer: LayerDeltaWriter;
  readonly #source: MemorySource;
  readonly #entries: SourceEntries;
  #content: Buffer[] = [];
  #file: { raw: boolean; old: Buffer | undefined } | undefined;

  constructor(writer: LayerDeltaWriter, source: MemorySource, entries: SourceEntries) {
    this.#writer = writer;
    this.#source = source;
    this.#entries = entries;
  }

  async run(target: Buffer): Promise<void> {
    for await (const event of readTar(piecesOf(target))) {
      if (event.kind === 'content') this.#content.push(Buffer.from(event.piece.bytes));
      if (event.kind === 'padding' || event.kind === 'content') continue;
      await this.#finishFile();
      if (event.kind === 'end') await this.#writer.literal(event.bytes);
      else await this.#entry(event.entry, event.raw);
    }
    await this.#finishFile();
  }

  async #entry(entry: TarEntry, raw: Buffer): Promise<void> {
    const index = this.#writer.pointer;
    const found = this.#entries.allows(index + 1) ? this.#entries.at(index) : undefined;
    const isWritten = this.#writer.entry(splitRecords(raw) ?? [], found && { index, entry: found });
    if (!isWritten) await this.#writer.literal(raw);
    if (entry.type !== 'file' || entry.size === 0) return;
    const path = found?.facts.path ?? entry.path.replace(/^\.?\//, '');
    this.#file = { raw: !isWritten, old: this.#source.files[path] };
  }

  async #finishFile(): Promise<void> {
    if (this.#file === undefined) return;
    const { raw, old } = this.#file;
    const fresh = Buffer.concat(this.#content);
    this.#file = undefined;
    this.#content = [];
    if (raw) await this.#writer.literal(padded(fresh));
    else if (old?.equals(fresh)) this.#writer.wholeSource();
    else {
      const out = new ContentWriter(1);
      const most = Math.min(old?.length ?? 0, fresh.length);
      if (old !== undefined) out.add(0, 0, old.subarray(0, most), fresh.subarray(0, most));
      out.literal(fresh.subarray(most));
      await this.#writer.content([], out.finish());
    }
  }
}

async function diffInOrder(
  writer: LayerDeltaWriter,
  target: Buffer,
  source: MemorySource,
  layer: Digest,
): Promise<void> {
  const headers = await memoryTree(source).openHeaders?.(layer);
  const entries = new SourceEntries(headers === undefined ? [] : [headers], 1e6);
  await new OrderDiffer(writer, source, entries).run(target);
}

async function* piecesOf(bytes: Buffer) {
  yield { bytes };
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}

const name = fc.stringMatching(/^[a-z]{1,8}(\/[a-z0-9.-]{1,60}){0,3}$/);
const entry: fc.Arbitrary<TarSpec> = fc.record({
  name,
  type: fc.constantFrom('file' as const, 'file' as const, 'directory' as const, 'symlink' as const),
  content: fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes)),
  mtime: fc.integer({ min: 0, max: 2_000_000_000 }),
  mode: fc.constantFrom(0o644, 0o755, 0o4755),
  linkName: name,
});
const layer = fc.uniqueArray(entry, { maxLength: 12, selector: (spec) => spec.name });
const plainLayer = layer.map((specs) => specs.filter((spec) => !spec.name.includes('..')));

describe('a layer delta', () => {
  it('rebuilds what was written, in both readers', async () => {
    await fc.assert(
      fc.asyncProperty(plainLayer, layer, fc.nat(400), async (from, to, cut) => {
        const old = tarOf(from);
        const target = tarOf(to);
        const source = await sourceOf(old);
        const delta = await writeLayerDelta(target, [sha256(old)], (writer) =>
          diffInOrder(writer, target, source, sha256(old)),
        );
        expect((await applyBoth(delta, source, cut + 1)).equals(target)).toBe(true);
      }),
      { numRuns: 150 },
    );
  });

  it('keeps an unchanged layer of 100,000 files in less than 1 KiB', async () => {
    const specs = Array.from({ length: 100_000 }, (_, i) => ({
      name: `dir-${Math.floor(i / 100)}/file-${i}`,
      type: 'file' as const,
      content: Buffer.alloc(0),
      mtime: 1_700_000_000 + ((i * 7919) % 1000),
    }));
    const tar = tarOf(specs);
    const source = await sourceOf(tar);
    const delta = await writeLayerDelta(tar, [sha256(tar)], async (writer) => {
      writer.keep(specs.length);
      await writer.literal(Buffer.alloc(1024));
    });
    expect(delta.length).toBeLessThan(1024);
    expect((await applyInMemory(delta, source)).equals(tar)).toBe(true);
  });

  it('carries content larger than a segment', async () => {
    const noise = Buffer.alloc(9_000_000);
    let state = 1;
    for (let i = 0; i < noise.length; i += 1) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) | 0;
      noise[i] = state >>> 16;
    }
    const other = Buffer.from(noise);
    for (let i = 0; i < other.length; i += 3) other[i] = (other[i] ?? 0) + 1;
    const old = tarOf([{ name: 'a', content: noise }]);
    const target = tarOf([
      { name: 'a', content: other },
      { name: 'b', content: Buffer.from(other).reverse() },
    ]);
    const source = await sourceOf(old);
    const delta = await writeLayerDelta(target, [sha256(old)], (writer) =>
      diffInOrder(writer, target, source, sha256(old)),
    );
    expect((await applyBoth(delta, source, 65_536)).equals(target)).toBe(true);
  });

  it('keeps parts aside and builds from them', async () => {
    const old = tarOf([{ name: 'a', content: Buffer.from('the old content of a file') }]);
    const source = await sourceOf(old);
    const target = Buffer.from('the new content of a file, twice: the new content of a file');
    const delta = await writeLayerDelta(target, [], async (writer) => {
      const build = new ContentWriter(1);
      build.copy(0, 0, 4);
      build.literal(Buffer.from('new'));
      build.copy(0, 7, 18);
      const part = await writer.build(25, [{ kind: 'file', path: 'a' }], build.finish());
      const out = new ContentWriter(1);
      out.copy(0, 0, 25);
      out.literal(Buffer.from(', twice: '));
      out.copy(0, 0, 25);
      await writer.stream(target.length, [{ kind: 'part', part }], out.finish());
      writer.free(part);
    });
    expect((await applyBoth(delta, source)).toString()).toBe(target.toString());
  });

  type Prediction = {
    readonly bytes: readonly number[];
    readonly source: readonly AddressStretch[];
    readonly content: readonly AddressStretch[];
    /** How far each interval begins after the one before, and how far it moved. */
    readonly moved: readonly (readonly [step: number, shift: number])[];
    readonly mode: number;
    readonly at: number;
  };

  /** Has both readers predict what code of `bytes` became. */
  async function predictsAlike({ bytes, moved, mode, at, ...stretches }: Prediction) {
    const old = Buffer.from(bytes);
    let start = 0;
    const starts = Float64Array.from(moved, ([step]) => (start += step));
    const shifts = Float64Array.from(moved, ([, shift]) => shift);
    const parts = { ...stretches, starts, shifts };
    const part = old.subarray(at);
    const guess = Buffer.from(part);
    new AddressMap(parts).predict(mode, guess, part, at, 0);
    const target = guess.map((byte, i) => (i % 97 === 0 ? byte + 1 : byte)) as Buffer;
    const delta = await writeLayerDelta(Buffer.from(target), [], async (writer) => {
      const out = new ContentWriter(1);
      out.map(0, parts);
      out.addPredicted(0, at, mode, guess, target);
      await writer.stream(target.length, [{ kind: 'file', path: 'a' }], out.finish());
    });
    expect((await applyBoth(delta, { files: { a: old } })).equals(target)).toBe(true);
  }

  it('predicts addresses alike in both readers', async () => {
    const opcode = fc.constantFrom(
      0xe8,
      0xe9,
      0x0f,
      0x85,
      0x8b,
      0x05,
      0x0d,
      0xc7,
      0x68,
      0xb8,
      0,
      0xff,
    );
    const code = fc.array(fc.oneof(opcode, opcode, fc.nat(255)), {
      minLength: 64,
      maxLength: 4000,
    });
    const stretch = fc.record({
      offset: fc.nat(3000),
      length: fc.nat(4000),
      address: fc.oneof(fc.integer({ min: -4000, max: 4000 }), fc.constant(-(2 ** 31))),
    });
    const stretches = fc.array(stretch, { minLength: 1, maxLength: 3 });
    const moves = fc.array(fc.tuple(fc.nat(300), fc.integer({ min: -500, max: 500 })), {
      minLength: 1,
      maxLength: 20,
    });
    await fc.assert(
      fc.asyncProperty(
        ...([code, stretches, stretches, moves, fc.constantFrom(1, 2, 3), fc.nat(40)] as const),
        async (bytes, source, content, moved, mode, at) => {
          await predictsAlike({ bytes, source, content, moved, mode, at });
        },
      ),
      { numRuns: 300 },
    );
  });

  it('predicts addresses in code of AArch64 alike in both readers', async () => {
    const branch = fc
      .tuple(fc.constantFrom(0x14000000, 0x94000000), fc.integer({ min: -500, max: 500 }))
      .map(([word, distance]) => word | (distance & 0x3ffffff));
    const register = fc.nat(2);
    const page = fc
      .tuple(fc.constantFrom(0x90000000, 0xb0000000, 0xf0ffffe0), register)
      .map(([word, into]) => word | into);
    // ADD, loads and stores of all sizes, and NOP.
    const users = [0x91000000, 0xf9400000, 0xb9000000, 0x79400000, 0x39400000, 0x3dc00000];
    const use = fc
      .tuple(fc.constantFrom(...users, 0x3d000000, 0xd503201f), register, fc.nat(1023))
      .map(([word, base, low]) => word | (base << 5) | (low << 10));
    const words = fc
      .array(fc.oneof(branch, page, use, use), { minLength: 900, maxLength: 1800 })
      .map((all) => [...Buffer.from(Uint32Array.from(all).buffer)]);
    const stretch = (address: number) => [{ offset: 0, length: 8000, address }];
    const address = fc.constantFrom(0, 0x400000, -4096, 4092, 2 ** 40).map(stretch);
    const moves = fc.array(fc.tuple(fc.nat(300), fc.constantFrom(0, 4, 6, 2048, 5000)), {
      minLength: 1,
      maxLength: 20,
    });
    await fc.assert(
      fc.asyncProperty(
        ...([words, address, address, moves, fc.nat(9)] as const),
        (bytes, source, content, moved, at) =>
          predictsAlike({ bytes, source, content, moved, mode: 3, at }),
      ),
      { numRuns: 40 },
    );
  });

  it('predicts tables of words alike in both readers', async () => {
    const word = fc.oneof(fc.integer({ min: -9000, max: 9000 }), fc.integer());
    const words = fc
      .array(word, { minLength: 900, maxLength: 1800 })
      .map((all) => [...Buffer.from(Int32Array.from(all).buffer)]);
    const stretch = (address: number) => [{ offset: 40, length: 6000, address }];
    const address = fc.constantFrom(0, 2000, -4096, -(2 ** 31), 2 ** 40).map(stretch);
    const moves = fc.array(fc.tuple(fc.nat(300), fc.constantFrom(0, 4, 6, 2048, 5000)), {
      minLength: 1,
      maxLength: 20,
    });
    await fc.assert(
      fc.asyncProperty(
        ...([words, address, address, moves, fc.constantFrom(4, 5), fc.nat(9)] as const),
        (bytes, source, content, moved, mode, at) =>
          predictsAlike({ bytes, source, content, moved, mode, at }),
      ),
      { numRuns: 40 },
    );
  });
});
