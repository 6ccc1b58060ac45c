import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_LAYER_LIMITS } from '../../../gateway/delta/image-side.ts';
import { openPacked } from '../../../gateway/delta/open-packed.ts';
import { ScratchFile } from '../../../gateway/delta/scratch-file.ts';
import { threadError } from '../../../gateway/delta/worker-pool.ts';
import { ownRecompression } from '../../../gateway/delta/zstd-program.ts';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import type { LayerFormat } from '../../../shared/delta/formats.ts';
import { createEncoders, repack } from '../../../shared/recompress/encoders.ts';
import { bytesSource } from '../../../shared/recompress/part.ts';
import { collect, contentIn } from '../../support/bytes.ts';
import { cpio } from '../../support/cpio.ts';
import { makeDelta } from '../../support/made-delta.ts';
import { type RawEntry, rawTar } from '../../support/raw-tar.ts';
import { putTinyImage } from '../../support/tiny-image.ts';

let dir: string;
let store: LayoutStore;
let format: LayerFormat;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-hostile-'));
  store = await LayoutStore.create(join(dir, 'images'));
  format = { kind: 'snapgate', recompress: await ownRecompression(128) };
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const ZEROS = Buffer.alloc(40_000_000);
const KIB = 1024;

async function xz(content: Uint8Array): Promise<Buffer> {
  const settings = {
    ...{ check: 1, blockSize: 0, headerSize: 20, sizes: 1, filter: 0, distance: 0 },
    ...{ dictionary: 2 ** 20, lc: 3, lp: 0, pb: 2, preset: 0, extreme: 0 },
  };
  const recipe = { encoder: 'xz', settings, frame: new Uint8Array(0) };
  return collect(repack(createEncoders(), recipe, contentIn(content)));
}

async function bombs(): Promise<Record<string, Buffer>> {
  const gzip = gzipSync(ZEROS);
  const zstd = zstdCompressSync(ZEROS, {
    params: { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_contentSizeFlag]: 0 },
  });
  const archive = cpio({ 'a.gz': gzip, 'b.zst': zstd });
  return {
    ...{ 'bomb.gz': gzip, 'bomb.zst': zstd, 'bomb.xz': await xz(ZEROS), initrd: archive },
    'twice.gz': gzipSync(gzip),
    'initrd.zst': zstdCompressSync(archive),
    'many.gz': Buffer.concat(Array.from({ length: 30 }, () => gzip)),
  };
}

describe('a hostile image', () => {
  it('with bombs, nested ones too, takes no more room than it has bytes', async () => {
    const files = await bombs();
    await putTinyImage(store, [{ ...files, same: 'x'.repeat(5000) }], { tag: 'v1' });
    const longer = Object.entries(files).map(([name, bytes]) => [
      name,
      Buffer.concat([bytes, Buffer.from('and more')]),
    ]);
    await putTinyImage(store, [Object.fromEntries(longer)], { tag: 'v2' });
    // The bombs would take gigabytes; what a delta unpacks counts as temporary room.
    const made = await makeDelta(store, dir, { format, diskBytes: 32_000_000 });
    expect(made.layers.map(({ kind }) => kind)).toEqual(['delta']);
    expect(await readdir(dir)).toEqual(['images']);
  });

  it('with many streams in a file has only some of them opened', async () => {
    const member = gzipSync(Buffer.alloc(1_000_000));
    const file = Buffer.concat(Array.from({ length: 20 }, () => member));
    const scratch = new ScratchFile(join(dir, 'scratch'));
    const options = { scratch, proving: undefined, maxBytes: 3_500_000 };
    const parts = (await openPacked(bytesSource(file), options)) ?? [];
    const opened = parts.flatMap((part) => (part.kind === 'packed' ? [part.content.size] : []));
    expect(opened).toEqual([1_000_000, 1_000_000, 1_000_000]);
    expect(scratch.position).toBe(3_000_000);
    expect(parts.reduce((sum, { size }) => sum + size, 0)).toBe(file.length);
    const small = Buffer.concat(Array.from({ length: 1100 }, () => gzipSync('small')));
    const some = (await openPacked(bytesSource(small), { ...options, maxBytes: 1e9 })) ?? [];
    expect(some.filter(({ kind }) => kind === 'packed')).toHaveLength(1024);
  });

  it('with a sparse file of 20 GiB is handled by what is stored of it', async () => {
    const sparse = (text: string): RawEntry => ({
      name: 'disk',
      content: text.repeat(1024).slice(0, 1024),
      pax: {
        'GNU.sparse.size': String(20 * KIB ** 3),
        'GNU.sparse.numblocks': '2',
        'GNU.sparse.map': `0,512,${20 * KIB ** 3 - 512},512`,
      },
    });
    const other = { name: 'other', content: 'some other file '.repeat(400) };
    await putTinyImage(store, [rawTar([sparse('one'), other])], { tag: 'v1' });
    await putTinyImage(store, [rawTar([sparse('two'), other, { name: 'new', content: 'n' }])], {
      tag: 'v2',
      packing: 'none',
    });
    for (const each of [format, { kind: 'tar-diff' }] as const) {
      const made = await makeDelta(store, dir, { format: each, diskBytes: 1_000_000 });
      expect(made.layers.map(({ kind }) => kind)).toEqual(['delta']);
    }
  });

  it('with names of every kind comes out as it is', async () => {
    const names = [
      ...['two\nlines', '\xff\xfe no text', ' spaces ', 'a..b', '...', './dotted', 'tab\there'],
      ...['n'.repeat(250), `deep/${'d/'.repeat(200)}end`, '"quoted" $(x) `y`', '-rf', '\x01\x7f'],
    ];
    const files = (text: string) =>
      rawTar(names.map((name) => ({ name, content: `${name} ${text.repeat(200)}` })));
    await putTinyImage(store, [files('before ')], { tag: 'v1' });
    await putTinyImage(store, [files('afterwards ')], { tag: 'v2', packing: 'none' });
    for (const each of [format, { kind: 'tar-diff' }] as const) {
      const made = await makeDelta(store, dir, { format: each });
      expect(made.layers.map(({ kind }) => kind)).toEqual(['delta']);
    }
  });

  it('with too many files in all its layers together is refused', async () => {
    const layer = (at: number) => ({ [`a${at}`]: 'x', [`b${at}`]: 'x', [`c${at}`]: 'x' });
    await putTinyImage(store, [layer(1), layer(2)], { tag: 'v1' });
    await putTinyImage(store, [layer(3)], { tag: 'v2' });
    const tar = { ...DEFAULT_LAYER_LIMITS.tar, maxEntries: 5 };
    const limits = { ...DEFAULT_LAYER_LIMITS, tar };
    await expect(makeDelta(store, dir, { format, limits })).rejects.toMatchObject({
      ...{ code: 'LIMIT_EXCEEDED', message: 'an image has more than 5 entries' },
    });
    expect(await readdir(dir)).toEqual(['images']);
  });

  it('that takes all memory of a thread ends the thread, not the process', async () => {
    const program = 'const all = []; for (;;) all.push(new Array(1e5).fill({}));';
    const worker = new Worker(program, {
      eval: true,
      resourceLimits: { maxOldGenerationSizeMb: 24 },
    });
    const error = await new Promise<Error>((resolve) => worker.once('error', resolve));
    expect(threadError(error)).toMatchObject({ code: 'LIMIT_EXCEEDED' });
    expect(threadError(new Error('another'))).toMatchObject({ message: 'another' });
  });
});

describe('a layer of 100,000 files', () => {
  const entries = Array.from({ length: 100_000 }, (_, i) => ({
    name: `folder-${i % 300}/file-${i}`,
  }));

  it('is refused where there is no memory for so many', async () => {
    await putTinyImage(store, [rawTar(entries)], { tag: 'v1' });
    await putTinyImage(store, [{ app: 'x' }], { tag: 'v2' });
    await expect(makeDelta(store, dir, { format, memoryBytes: 1 })).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
      message: expect.stringMatching(/^the \d+ first entries of an image take the memory/),
    });
    expect(await readdir(dir)).toEqual(['images']);
  });

  it('costs nothing on a new parent, and little when one file changes', async () => {
    const layer = rawTar(entries);
    const changed = rawTar(
      entries.map((entry, i) => (i === 70_000 ? { ...entry, mode: 0o600 } : entry)),
    );
    await putTinyImage(store, [{ base: 'one'.repeat(9000) }, layer], { tag: 'v1' });
    await putTinyImage(store, [{ base: 'two'.repeat(9000) }, layer, changed], { tag: 'v2' });
    const made = await makeDelta(store, dir, { format });
    expect(made.layers.slice(1).map(({ kind }) => kind)).toEqual(['reparented', 'delta']);
    expect(made.layers[1]?.bytes).toBe(0);
    expect(made.layers[2]?.bytes).toBeLessThan(KIB);
  });
});
