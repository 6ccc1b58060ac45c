import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { constants, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LayoutStore } from '../../gateway/layout/layout-store.ts';
import { readDelta } from '../../gateway/plan/read-delta.ts';
import { LAYER_DELTA } from '../../shared/oci/media-types.ts';
import { createEncoders, repack } from '../../shared/recompress/encoders.ts';
import { parseRecipe } from '../../shared/recompress/recipe.ts';
import { collect, contentIn } from '../support/bytes.ts';
import { snapgate } from '../support/run-program.ts';
import { noise } from '../support/sample-layer-delta.ts';
import { putTinyImage } from '../support/tiny-image.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-test-'));
});
afterEach(() => rm(dir, { recursive: true }));

/** As GNU gzip packs it, which is what packages hold. */
async function gzip(text: string): Promise<Buffer> {
  const recipe = parseRecipe('gnu-gzip level=9 frame=1f8b0800000000000203');
  return collect(repack(createEncoders(), recipe, contentIn(Buffer.from(text))));
}

/** Two versions of an image; returns their references and the unpacked old one. */
async function images() {
  const text = Array.from({ length: 4000 }, (_, i) => `line ${i * i} of a manual\n`).join('');
  const old: Record<string, Buffer> = {
    'usr/bin/tool': noise(300_000, 5),
    'usr/share/man/tool.1.gz': await gzip(text),
    'usr/share/unchanged': noise(20_000, 6),
  };
  const tool = Buffer.from(noise(300_000, 5));
  for (let at = 0; at < tool.length; at += 5000) tool[at] = 1;
  return imagesOf(old, {
    ...old,
    'usr/bin/tool': tool,
    'usr/share/man/tool.1.gz': await gzip(text.replace('line 1 ', 'line one ')),
  });
}

async function imagesOf(old: Record<string, Buffer>, fresh: Record<string, Buffer>) {
  const store = await LayoutStore.create(join(dir, 'images'));
  await putTinyImage(store, [old], { tag: 'v1' });
  await putTinyImage(store, [fresh], { tag: 'v2' });
  const tree = join(dir, 'tree');
  for (const [path, content] of Object.entries(old)) {
    mkdirSync(dirname(join(tree, path)), { recursive: true });
    writeFileSync(join(tree, path), content);
  }
  return { oci: `oci:${join(dir, 'images')}`, tree };
}

/** A program's text of some size, changed in a few places, as zstd packs it at a high level. */
function packedModule(version: number): Buffer {
  const lines = Array.from({ length: 30_000 }, (_, i) => {
    const value = i % 5000 === version ? i * version : i % 611;
    return `call_${(i * i) % 977}(${value}, ${(i * 7919) % 104_729});\n`;
  });
  return zstdCompressSync(lines.join(''), { params: { [constants.ZSTD_c_compressionLevel]: 19 } });
}

describe('a delta in the format of its own', () => {
  it.each([
    ['with the insides of compressed files', [], 3000],
    ['with compressed files as they are', ['--no-recompress'], 30_000],
  ])('is made and applied, %s', async (_, more, most) => {
    const { oci, tree } = await images();
    const made = await snapgate([
      ...['delta', 'create', '--source', `${oci}:v1`, '--target', `${oci}:v2`],
      ...['--output', `oci:${join(dir, 'delta')}:d`, '--temporary-dir', dir, '--json', ...more],
    ]);
    expect([made.status, made.stderr]).toEqual([0, '']);
    expect(JSON.parse(made.stdout).layers[0].bytes).toBeLessThan(most);
    const store = await LayoutStore.open(join(dir, 'delta'));
    const delta = await readDelta(store, 'd');
    expect([...delta.parts.values()].map((part) => part.mediaType)).toEqual([LAYER_DELTA]);
    expect(delta.bounds?.temporaryBytes).toBeGreaterThan(1000);
    const apply = (...rest: string[]) =>
      snapgate([
        ...['delta', 'apply', '--source-tree', tree, '--delta', `oci:${join(dir, 'delta')}:d`],
        ...['--output', `oci:${join(dir, 'out')}:v2`, '--temporary-dir', dir, '--json', ...rest],
      ]);
    const applied = await apply('--source', `${oci}:v1`);
    expect([applied.status, applied.stderr]).toEqual([0, '']);
    expect(JSON.parse(applied.stdout).layers).toMatchObject([{ kind: 'delta' }]);
    const without = await apply();
    expect(JSON.parse(without.stdout).error).toMatchObject({
      code: 'DELTA_SOURCE_MISMATCH',
      hint: expect.stringContaining('source image itself'),
    });
  });

  it('sees into zstd files that the machine has no memory to pack', async () => {
    const [before, after] = [packedModule(1), packedModule(2)];
    const { oci, tree } = await imagesOf(
      { 'usr/lib/a.zst': before },
      { 'usr/lib/a.zst': after, 'usr/lib/new.zst': packedModule(3) },
    );
    const bytes: number[] = [];
    for (const more of [['--encoder-memory', '32'], ['--no-recompress']]) {
      const out = `oci:${join(dir, `delta-${bytes.length}`)}:d`;
      const made = await snapgate([
        ...['delta', 'create', '--source', `${oci}:v1`, '--target', `${oci}:v2`, '--output', out],
        ...['--temporary-dir', dir, '--json', ...more],
      ]);
      bytes.push(JSON.parse(made.stdout).layers[0].bytes);
      const applied = await snapgate([
        ...['delta', 'apply', '--source-tree', tree, '--source', `${oci}:v1`, '--delta', out],
        ...['--output', `oci:${join(dir, 'out')}:v2`, '--temporary-dir', dir, '--json'],
      ]);
      expect([applied.status, applied.stderr]).toEqual([0, '']);
      expect(JSON.parse(applied.stdout).layers).toMatchObject([{ kind: 'delta' }]);
    }
    const [parsed = 0, plain = 0] = bytes;
    // The file that is new is half of it, and stays packed.
    expect(parsed).toBeLessThan(0.6 * plain);
  });

  it('is explained: by kind, by file, and in a picture', async () => {
    const { oci } = await images();
    await snapgate([
      ...['delta', 'create', '--source', `${oci}:v1`, '--target', `${oci}:v2`],
      ...['--output', `oci:${join(dir, 'delta')}:d`, '--temporary-dir', dir],
    ]);
    const svg = join(dir, 'map.svg');
    const inspect = (...more: string[]) =>
      snapgate(['delta', 'inspect', `oci:${join(dir, 'delta')}:d`, '--explain', ...more]);
    const { stdout } = await inspect('--source', `${oci}:v1`, '--svg', svg, '--json');
    const { explanation, deltaBytes } = JSON.parse(stdout);
    const files = Object.fromEntries(
      explanation.largest.map((file: { path: string; kind: string }) => [file.path, file.kind]),
    );
    expect(files).toMatchObject({
      'usr/bin/tool': 'patched',
      'usr/share/man/tool.1.gz': 'recompressed',
    });
    const total = Object.values<number>(explanation.kinds).reduce((sum, bytes) => sum + bytes, 0);
    expect(total).toBeGreaterThan(300);
    expect(total).toBeLessThan(deltaBytes);
    expect(readFileSync(svg, 'utf8')).toMatch(/^<svg .*tool\.1\.gz.*<\/svg>\n$/s);
    expect((await inspect()).stderr).toContain('--source REF');
  });

  it('notices a tree that is another', async () => {
    const { oci, tree } = await images();
    await snapgate([
      ...['delta', 'create', '--source', `${oci}:v1`, '--target', `${oci}:v2`],
      ...['--output', `oci:${join(dir, 'delta')}:d`, '--temporary-dir', dir],
    ]);
    writeFileSync(join(tree, 'usr/bin/tool'), noise(300_000, 99));
    const { status, stdout } = await snapgate([
      ...['delta', 'apply', '--source-tree', tree, '--source', `${oci}:v1`, '--json'],
      ...['--delta', `oci:${join(dir, 'delta')}:d`, '--output', `oci:${join(dir, 'out')}:v2`],
    ]);
    expect([status, JSON.parse(stdout).error.code]).toEqual([4, 'DIFF_ID_MISMATCH']);
  });

  it('is compared with other formats and tools', async () => {
    const { oci } = await images();
    const args = ['delta', 'compare', `${oci}:v1`, `${oci}:v2`, '--temporary-dir', dir];
    const { stdout } = await snapgate([...args, '--json']);
    const { ways, fullBytes } = JSON.parse(stdout) as {
      ways: { way: string; bytes?: number }[];
      fullBytes: number;
    };
    const bytes = new Map(ways.map((one) => [one.way, one.bytes ?? fullBytes]));
    const own = ['snapgate, recompressing', 'snapgate, plain', 'snapgate, tar-diff'];
    expect([...bytes.keys()].slice(0, 3)).toEqual(own);
    const [smallest] = [...bytes.values()].sort((a, b) => a - b);
    expect(bytes.get('snapgate, recompressing')).toBe(smallest);
    expect(bytes.get('snapgate, tar-diff')).toBeLessThan(fullBytes / 2);
    const table = await snapgate(args);
    expect(table.stdout).toContain('snapgate, recompressing');
    expect(table.stdout).toContain('a full pull takes');
    expect((await snapgate(['delta', 'compare', `${oci}:v1`])).status).toBe(2);
  });
});
