import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BuiltLayer } from '../../../host-client/storage/layer-builder.ts';
import { LayerFiles } from '../../../host-client/storage/layer-files.ts';
import { layerIds } from '../../../host-client/storage/layer-store.ts';
import { reassembleTar } from '../../../host-client/storage/tar-split-file.ts';
import { useLayerStaging } from '../../support/layer-staging.ts';
import { plainPieces, putLayoutImage, sourcedPieces } from '../../support/podman-storage.ts';
import { type RawEntry, rawTar } from '../../support/raw-tar.ts';
import { collectBytes } from '../../support/tiny-image.ts';
import { describeTree } from '../../support/tree.ts';

describe.each([1, 2] as const)('layers built by btrfs receive, version %i', (version) => {
  const layers = useLayerStaging(version);

  it('share the content that a source has, block by block and at the end', async () => {
    const noise = (seed: number, size: number) => {
      const bytes = Buffer.alloc(size);
      for (let i = 0, x = seed; i < size; i += 1) {
        x = (Math.imul(x, 1_103_515_245) + 12_345) >>> 0;
        bytes[i] = x >>> 16;
      }
      return bytes;
    };
    const big = noise(1, 300_001);
    const changed = Buffer.from(big);
    noise(2, 9_000).copy(changed, 100_000);
    const files: RawEntry[] = [
      { name: 'big', content: big },
      { name: 'small', content: noise(3, 100) },
      { name: 'cut', content: noise(4, 8192 + 5) },
    ];
    const old = rawTar(files);
    const image = await putLayoutImage(join(layers.mount.path, 'clone'), [old]);
    layers.storage.copyIn(image, 'localhost/clone:1');
    const [id = ''] = layerIds(image.layers.map((layer) => layer.diffId));
    using source = new LayerFiles(layers.store.subvolume(id), id);
    const tar = rawTar([
      { name: 'big', content: changed },
      { name: 'moved/small', content: noise(3, 100) },
      // Longer than its source: the source's last bytes are in the middle of it.
      { name: 'cut', content: Buffer.concat([noise(4, 8192 + 5), noise(5, 10_000)]) },
      // Shorter: it ends inside a block of its source.
      { name: 'short', content: big.subarray(0, 5000) },
    ]);
    const read = join(layers.store.subvolume(id), 'big');
    const { mtime } = statSync(read);
    utimesSync(read, new Date(0), mtime);
    const where = (name: string) => ({ 'moved/small': 'small', short: 'big' })[name] ?? name;
    const pieces = sourcedPieces(plainPieces(tar, 1000), source, where);
    const built = await layers.build(tar, undefined, { pieces });
    expect(built.bytesCloned).toBeGreaterThan(280_000);
    expect(built.bytesWritten).toBeLessThan(40_000);
    expect(built.bytesCloned + built.bytesWritten).toBe(300_001 + 100 + 18_197 + 5000);
    // To note when it was read would write the metadata of the source anew.
    expect(statSync(read).atimeMs).toBe(0);
    await layers.compare([tar], [built]);
  });

  it('take the room of their compressed content in version 2 alone', async () => {
    const used = () => {
      execFileSync('btrfs', ['filesystem', 'sync', layers.mount.path]);
      const text = execFileSync('btrfs', ['filesystem', 'df', '-b', layers.mount.path], {
        encoding: 'utf8',
      });
      return Number(/^Data,.*used=(\d+)/m.exec(text)?.[1]);
    };
    const text = Buffer.from('words that come again '.repeat(100_000));
    const tar = rawTar([
      { name: 'text', content: text },
      { name: 'most', content: text.subarray(0, 300_000) },
    ]);
    const before = used();
    const built = await layers.build(tar);
    expect(readFileSync(join(built.path, 'text')).equals(text)).toBe(true);
    expect(readFileSync(join(built.path, 'most')).equals(text.subarray(0, 300_000))).toBe(true);
    const taken = used() - before;
    if (version === 1) expect(taken).toBeGreaterThan(2_400_000);
    else expect(taken).toBeLessThan(400_000);
  });

  it('are read back as the tar streams that they were', async () => {
    const tar = rawTar([
      { name: './', type: '5' },
      { name: './a', content: 'x'.repeat(70_000) },
      { name: './h', type: '1', link: './a' },
      { name: 'n\xff', content: 'q' },
      { name: 'gone', content: 'first' },
    ]);
    const built = await layers.build(tar);
    using files = new LayerFiles(built.path, 'x');
    expect((await reassembled(built, files)).equals(tar)).toBe(true);
  });

  it('are like those of Podman itself: writable, and not known as received', async () => {
    const { path, uuid } = await layers.build(rawTar([{ name: 'a', content: 'x'.repeat(70_000) }]));
    const shown = execFileSync('btrfs', ['subvolume', 'show', path], { encoding: 'utf8' });
    expect(/Received UUID:\s+(\S+)/.exec(shown)?.[1]).toBe('-');
    expect(/Flags:\s+(\S+)/.exec(shown)?.[1]).toBe('-');
    expect(/UUID:\s+(\S+)/.exec(shown)?.[1]?.replaceAll('-', '')).toBe(uuid.toString('hex'));
  });

  it.each(['gnu', 'posix'])('keep the holes of sparse files (%s)', async (format) => {
    const folder = join(layers.mount.path, `sparse-${format}`);
    const script = `mkdir ${folder} && cd ${folder} && truncate -s 9M holes && echo start |
      dd of=holes conv=notrunc 2>&1 && echo middle | dd of=holes bs=1M seek=5 conv=notrunc 2>&1 &&
      truncate -s 3M nothing && tar --sparse --format=${format} -cf ../${format}.tar .`;
    execFileSync('sh', ['-c', script]);
    const tar = readFileSync(join(layers.mount.path, `${format}.tar`));
    expect(tar.length).toBeLessThan(1 << 20);
    const built = await layers.build(tar);
    for (const name of ['holes', 'nothing']) {
      const original = readFileSync(join(folder, name));
      expect(readFileSync(join(built.path, name)).equals(original)).toBe(true);
      expect(statSync(join(built.path, name)).blocks).toBeLessThan(100);
    }
    using files = new LayerFiles(built.path, 'x');
    expect((await reassembled(built, files)).equals(tar)).toBe(true);
  });

  it('take a path that comes again as its last one, though Podman would refuse it', async () => {
    const twice = [
      { name: 'a', content: 'first' },
      { name: 'a', content: 'second' },
      { name: 'a', content: 'the next one' },
      { name: 'b', content: '1' },
      { name: 'a', content: 'last, which is longer' },
      { name: 'd/', type: '5', mode: 0o700 },
      { name: 'd/', type: '5', mode: 0o711 },
    ];
    const built = await layers.build(rawTar(twice));
    expect(readFileSync(join(built.path, 'a'), 'utf8')).toBe('last, which is longer');
    expect(describeTree(built.path).filter((line) => /^d /.test(line))[0]).toMatch(/^d 40711 /);
    expect(readdirSync(built.path).sort()).toEqual(['a', 'b', 'd']);
  });
});

function reassembled(built: BuiltLayer, files: LayerFiles): Promise<Buffer> {
  const copies = async function* () {
    for await (const { bytes } of reassembleTar(built.tarSplitPath, files))
      yield Buffer.from(bytes);
  };
  return collectBytes(copies());
}
