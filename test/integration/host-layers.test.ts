import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { receivesPacked } from '../../host-client/storage/btrfs.ts';
import { type BuiltLayer, buildLayer } from '../../host-client/storage/layer-builder.ts';
import { LayerFiles } from '../../host-client/storage/layer-files.ts';
import { LayerStore, layerIds } from '../../host-client/storage/layer-store.ts';
import { Staging } from '../../host-client/storage/staging.ts';
import { reassembleTar } from '../../host-client/storage/tar-split-file.ts';
import { sha256 } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { type BtrfsMount, btrfsSkipReason, mountBtrfs } from '../support/btrfs.ts';
import {
  plainPieces,
  programsSkipReason,
  putLayoutImage,
  sourcedPieces,
  TestStorage,
} from '../support/podman-storage.ts';
import { type RawEntry, rawTar } from '../support/raw-tar.ts';
import { collectBytes } from '../support/tiny-image.ts';
import { describeTree } from '../support/tree.ts';

const reason = btrfsSkipReason() ?? programsSkipReason('skopeo');
const START = Date.now() - 5_000;

describe.each([1, 2] as const)('layers built by btrfs receive, version %i', (version) => {
  let mount: BtrfsMount;
  let storage: TestStorage;
  let layers: LayerStore;
  let staging: Staging;
  let images = 0;

  beforeAll(async () => {
    if (reason !== undefined) return;
    mount = mountBtrfs({ sizeMiB: 2048 });
    storage = new TestStorage(mount.path);
    layers = new LayerStore(storage.graphRoot);
    const folder = join(mount.path, 'staging');
    staging = new Staging(folder, (id) => layers.subvolume(id), undefined, version);
    await staging.clear();
  });
  afterAll(() => mount?.unmount());
  beforeEach(async (ctx) => {
    ctx.skip(reason !== undefined, reason);
    const old = version === 2 && !(await receivesPacked());
    ctx.skip(old, 'needs Linux 6.0 and btrfs-progs 5.18');
  });

  const staged = () => readdirSync(staging.folder);

  async function build(
    tar: Buffer,
    parent?: BuiltLayer,
    options: { pieces?: ReturnType<typeof plainPieces>; diffId?: ReturnType<typeof sha256> } = {},
  ): Promise<BuiltLayer> {
    return buildLayer({
      staging,
      diffId: options.diffId ?? sha256(tar),
      parent: parent && { folder: parent.path, uuid: parent.uuid },
      tar: options.pieces ?? plainPieces(tar, 700),
      onBytes: () => undefined,
    });
  }

  /** Compares what we made of each layer with what Podman's own code makes of it. */
  async function compare(tars: readonly Buffer[], built: readonly BuiltLayer[]): Promise<void> {
    images += 1;
    const image = await putLayoutImage(join(mount.path, `image-${images}`), tars);
    try {
      storage.copyIn(image, `localhost/image:${images}`);
    } catch (error) {
      // Podman alone minds when a layer removes a directory that it names.
      fc.pre(!/stderr: chtimes /.test(String(error)));
      throw error;
    }
    const ids = layerIds(image.layers.map((layer) => layer.diffId));
    const records = await layers.read();
    for (const [i, id] of ids.entries()) {
      // Podman's way into the tree touches its root.
      const describe = (folder: string) =>
        describeTree(folder, START).map((line) => line.replace(/^( \d+ \d+:\d+) \S+/, '$1'));
      expect(describe(built[i]?.path ?? '')).toEqual(describe(layers.subvolume(id)));
      const recorded = records.get(id);
      expect(recorded?.uidset ?? []).toEqual(built[i]?.uids);
      expect(recorded?.gidset ?? []).toEqual(built[i]?.gids);
      expect(tarSplit(built[i]?.tarSplitPath ?? '')).toEqual(tarSplit(layers.tarSplit(id)));
    }
  }

  it('are what Podman unpacks, for everything that a layer may hold', async () => {
    const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
    const tars = [
      rawTar(
        [
          { name: './', type: '5', mode: 0o755, mtime: 5 },
          { name: 'd/', type: '5', mtime: '-5.25', uid: 7, gid: 8 },
          { name: 'a', content: 'one', mode: 0o4755, uid: 1000, gid: 1001 },
          { name: 'old', mtime: '-5.25' },
          { name: 's', type: '2', link: 'x', mtime: '-5.25' },
          { name: 'g', content: 'x', mtime: '12.123456789', xattrs: { 'user.a': 'b' } },
          { name: 'cap', content: 'y', uid: 3, xattrs: { 'security.capability': capability } },
          {
            name: 'label',
            xattrs: { 'security.selinux': 'system_u:object_r:etc_t:s0\0', foo: 'x' },
          },
          { name: 'd/acl', type: '5', xattrs: { 'trusted.x': '\x00\xff', 'user.empty': '' } },
          { name: 'hs', type: '1', link: 's', uid: 5 },
          { name: 'ha', type: '1', link: './a', uid: 5, mode: 0o2700, mtime: 77 },
          { name: 'implied/dirs/x', mtime: 99 },
          { name: 'dev/c', type: '3', major: 1, minor: 300, mode: 0o666 },
          { name: 'dev/b', type: '4', major: 259, minor: 70_000, mode: 0o660, gid: 6 },
          { name: 'p', type: '6', mode: 0o600 },
          { name: 'usr/lib/', type: '5', mode: 0o2775, gid: 50 },
          { name: 'lib', type: '2', link: 'usr/lib' },
          { name: 'abs', type: '2', link: '/usr/./lib/' },
          { name: 'usr/lib/deep/er/x', content: 'z'.repeat(100_000) },
          { name: 'n\xe4\xff \n"', content: 'latin1 name' },
          { name: `${'long/'.repeat(40)}name`, content: 'deep' },
          { name: 'setgid-file', content: '1', mode: 0o2755, gid: 9 },
        ].filter(({ name }) => name !== 'sparse'),
      ),
      rawTar([
        { name: 'lib/y', content: 'by way of a link' },
        { name: 'abs/new/z', content: 'by way of an absolute link' },
        { name: 'a', type: '5' },
        { name: 'usr/lib/deep/.wh..wh..opq' },
        { name: 'usr/lib/deep/z', content: 'z' },
        { name: '.wh.g' },
        { name: '.wh.not-there' },
        { name: '.wh..wh.aufs' },
        { name: 'd', content: 'a file now' },
        { name: 'ha', content: 'replaced, its links are not' },
        { name: 'implied/.wh.dirs' },
        { name: 's', type: '5' },
        { name: 'hs', type: '2', link: 'elsewhere' },
        { name: 'lib/.wh..wh..opq' },
      ]),
      rawTar([
        { name: '.wh.usr' },
        { name: 'usr/bin/x', content: '1' },
        { name: 'lib', type: '5' },
      ]),
      rawTar([]),
      rawTar([{ name: 'z/1', content: 'first' }, { name: 'z/.wh..wh..opq' }, { name: 'z/2' }]),
      rawTar([{ name: 'z/3' }, { name: '.wh..wh..opq' }]),
    ];
    const built: BuiltLayer[] = [];
    for (const tar of tars) built.push(await build(tar, built.at(-1)));
    await compare(tars, built);
  });

  /** Builds as much of a random layer as is sound. */
  async function buildSound(layer: readonly RawEntry[], parent: BuiltLayer | undefined) {
    for (let taken = layer.length; ; taken -= 1) {
      const tar = rawTar(layer.slice(0, taken));
      try {
        return { tar, made: await build(tar, parent), taken };
      } catch (error) {
        expect((error as SnapgateError).code).toBe('TAR_INVALID');
      }
    }
  }

  it('are what Podman unpacks, for random layers on one another', async () => {
    let entries = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(randomLayer, { minLength: 6, maxLength: 6 }), async (stack) => {
        const tars: Buffer[] = [];
        const built: BuiltLayer[] = [];
        for (const layer of stack) {
          const { tar, made, taken } = await buildSound(layer, built.at(-1));
          tars.push(tar);
          built.push(made);
          entries += taken;
        }
        await compare(tars, built);
      }),
      { numRuns: Number(process.env.SNAPGATE_LAYER_RUNS ?? 6) },
    );
    expect(entries).toBeGreaterThan(30);
  }, 600_000);

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
    const image = await putLayoutImage(join(mount.path, 'clone'), [old]);
    storage.copyIn(image, 'localhost/clone:1');
    const [id = ''] = layerIds(image.layers.map((layer) => layer.diffId));
    using source = new LayerFiles(layers.subvolume(id), id);
    const tar = rawTar([
      { name: 'big', content: changed },
      { name: 'moved/small', content: noise(3, 100) },
      // Longer than its source: the source's last bytes are in the middle of it.
      { name: 'cut', content: Buffer.concat([noise(4, 8192 + 5), noise(5, 10_000)]) },
      // Shorter: it ends inside a block of its source.
      { name: 'short', content: big.subarray(0, 5000) },
    ]);
    const read = join(layers.subvolume(id), 'big');
    const { mtime } = statSync(read);
    utimesSync(read, new Date(0), mtime);
    const where = (name: string) => ({ 'moved/small': 'small', short: 'big' })[name] ?? name;
    const pieces = sourcedPieces(plainPieces(tar, 1000), source, where);
    const built = await build(tar, undefined, { pieces });
    expect(built.bytesCloned).toBeGreaterThan(280_000);
    expect(built.bytesWritten).toBeLessThan(40_000);
    expect(built.bytesCloned + built.bytesWritten).toBe(300_001 + 100 + 18_197 + 5000);
    // To note when it was read would write the metadata of the source anew.
    expect(statSync(read).atimeMs).toBe(0);
    await compare([tar], [built]);
  });

  it('take the room of their compressed content in version 2 alone', async () => {
    const used = () => {
      execFileSync('btrfs', ['filesystem', 'sync', mount.path]);
      const text = execFileSync('btrfs', ['filesystem', 'df', '-b', mount.path], {
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
    const built = await build(tar);
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
    const built = await build(tar);
    using files = new LayerFiles(built.path, 'x');
    expect((await reassembled(built, files)).equals(tar)).toBe(true);
  });

  it('are like those of Podman itself: writable, and not known as received', async () => {
    const { path, uuid } = await build(rawTar([{ name: 'a', content: 'x'.repeat(70_000) }]));
    const shown = execFileSync('btrfs', ['subvolume', 'show', path], { encoding: 'utf8' });
    expect(/Received UUID:\s+(\S+)/.exec(shown)?.[1]).toBe('-');
    expect(/Flags:\s+(\S+)/.exec(shown)?.[1]).toBe('-');
    expect(/UUID:\s+(\S+)/.exec(shown)?.[1]?.replaceAll('-', '')).toBe(uuid.toString('hex'));
  });

  it.each(['gnu', 'posix'])('keep the holes of sparse files (%s)', async (format) => {
    const folder = join(mount.path, `sparse-${format}`);
    const script = `mkdir ${folder} && cd ${folder} && truncate -s 9M holes && echo start |
      dd of=holes conv=notrunc 2>&1 && echo middle | dd of=holes bs=1M seek=5 conv=notrunc 2>&1 &&
      truncate -s 3M nothing && tar --sparse --format=${format} -cf ../${format}.tar .`;
    execFileSync('sh', ['-c', script]);
    const tar = readFileSync(join(mount.path, `${format}.tar`));
    expect(tar.length).toBeLessThan(1 << 20);
    const built = await build(tar);
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
    const built = await build(rawTar(twice));
    expect(readFileSync(join(built.path, 'a'), 'utf8')).toBe('last, which is longer');
    expect(describeTree(built.path).filter((line) => /^d /.test(line))[0]).toMatch(/^d 40711 /);
    expect(readdirSync(built.path).sort()).toEqual(['a', 'b', 'd']);
  });

  it('leave nothing of a stream that is not the one named', async () => {
    await staging.clear();
    const tar = rawTar([{ name: 'a', content: 'x' }]);
    const wrong = build(tar, undefined, { diffId: sha256('something else') });
    await expect(wrong).rejects.toMatchObject({ code: 'DIFF_ID_MISMATCH' });
    const short = build(tar, undefined, { pieces: plainPieces(tar.subarray(0, 400)) });
    await expect(short).rejects.toMatchObject({ code: 'TAR_INVALID' });
    const broken = async function* () {
      yield { bytes: tar.subarray(0, 512) };
      throw new SnapgateError('UPSTREAM_FAILED', 'the line broke');
    };
    const torn = build(tar, undefined, { pieces: broken() });
    await expect(torn).rejects.toMatchObject({ code: 'UPSTREAM_FAILED' });
    expect(staged()).toEqual([]);
  });

  const parentOfHostile = [
    { name: 'file', content: 'x' },
    { name: 'out', type: '2', link: '../../../etc' },
    { name: 'loop', type: '2', link: 'loop' },
    { name: 'dangling', type: '2', link: 'nothing' },
  ];
  const hostile: Record<string, RawEntry[]> = {
    'a path with ..': [{ name: 'a/../../x' }],
    'an absolute path': [{ name: '/etc/passwd' }],
    'a link of its own as a parent': [
      { name: 'l', type: '2', link: '/etc' },
      { name: 'l/passwd', content: 'x' },
    ],
    'a link out of the tree as a parent': [{ name: 'out/passwd' }],
    'a loop of links as a parent': [{ name: 'loop/x' }],
    'a link to nothing as a parent': [{ name: 'dangling/x' }],
    'a file as a parent': [{ name: 'file/x' }],
    'a hard link out of the tree': [{ name: 'h', type: '1', link: '../../etc/passwd' }],
    'an absolute hard link': [{ name: 'h', type: '1', link: '/etc/passwd' }],
    'a hard link through a link out of the tree': [{ name: 'h', type: '1', link: 'out/passwd' }],
    'a hard link to nothing': [{ name: 'h', type: '1', link: 'nothing-there' }],
    'a hard link to itself': [{ name: 'file', type: '1', link: 'file' }],
    'a hard link to a directory': [
      { name: 'd', type: '5' },
      { name: 'h', type: '1', link: 'd' },
    ],
    'a whiteout of ..': [{ name: 'd/.wh...' }],
    'a whiteout of nothing': [{ name: 'd/.wh.' }],
    'a root that is a file': [{ name: './' }],
    'a name that is too long': [{ name: 'x'.repeat(256) }],
    'a path that is too long': [{ name: 'x/'.repeat(2040) }],
    'a device that cannot be': [{ name: 'c', type: '3', major: 5000, minor: 1 }],
    'an empty symbolic link': [{ name: 's', type: '2' }],
    'an owner that cannot be': [{ name: 'o', pax: { uid: '4294967295' } }],
    'an entry of an unknown kind': [{ name: 'k', type: '9' }],
  };
  it.each(Object.entries(hostile))('refuse %s', async (_, entries) => {
    await staging.clear();
    const parent = await build(rawTar(parentOfHostile));
    const before = staged();
    const building = build(rawTar([{ name: 'fine', content: 'x' }, ...entries]), parent);
    await expect(building).rejects.toMatchObject({ code: 'TAR_INVALID' });
    expect(staged()).toEqual(before);
  });

  it('stop when they are cancelled', async () => {
    const abort = new AbortController();
    const own = new Staging(join(mount.path, 'cancelled'), () => '', abort.signal);
    await own.clear();
    const endless = async function* () {
      yield { bytes: rawTar([{ name: 'a', content: 'x' }]).subarray(0, 1024) };
      const block = rawTar([{ name: 'b', content: Buffer.alloc(1 << 20) }]).subarray(0, -1024);
      for (let i = 0; ; i += 1) {
        if (i === 3) abort.abort();
        yield { bytes: block };
      }
    };
    const building = buildLayer({
      ...{ staging: own, diffId: sha256(''), parent: undefined, tar: endless() },
      onBytes: () => undefined,
    });
    await expect(building).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(readdirSync(own.folder)).toEqual([]);
  });

  it('say that the disk is full when it is', async () => {
    const small = mountBtrfs({ sizeMiB: 128 });
    try {
      const own = new Staging(join(small.path, 'staging'), () => '', undefined);
      await own.clear();
      const tar = rawTar([{ name: 'a', content: Buffer.alloc(160 << 20, 'noise') }]);
      const building = buildLayer({
        ...{ staging: own, diffId: sha256(tar), parent: undefined, tar: plainPieces(tar) },
        onBytes: () => undefined,
      });
      await expect(building).rejects.toMatchObject({ code: 'NO_SPACE' });
      expect(readdirSync(own.folder)).toEqual([]);
    } finally {
      small.unmount();
    }
  });
});

function reassembled(built: BuiltLayer, files: LayerFiles): Promise<Buffer> {
  const copies = async function* () {
    for await (const { bytes } of reassembleTar(built.tarSplitPath, files))
      yield Buffer.from(bytes);
  };
  return collectBytes(copies());
}

/** A record without what differs and means the same. */
function tarSplit(path: string): string[] {
  const lines = gunzipSync(readFileSync(path)).toString('utf8').trim().split('\n');
  return lines.filter((line) => !line.includes('"payload":""'));
}

/** Names that meet often, so that things are replaced, hidden and merged. */
const directoryName = fc.constantFrom('d0', 'd1', 'd2', 'ln');
const fileName = fc.constantFrom('f0', 'f1', 'f2', 'd0', 'ln');
const path = fc
  .tuple(fc.array(directoryName, { maxLength: 2 }), fileName)
  .map(([parents, name]) => [...parents, name].join('/'));
const metadata = fc.record({
  mode: fc.constantFrom(0o644, 0o755, 0o4711, 0o2775, 0o1777, 0),
  uid: fc.nat(3),
  gid: fc.nat(3),
  mtime: fc.nat(1_600_000_000),
});
const kind = fc.oneof(
  { weight: 4, arbitrary: fc.record({ content: fc.string({ maxLength: 20 }) }) },
  { weight: 4, arbitrary: fc.constant({ type: '5' }) },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('2'),
      link: fc.constantFrom('d0', '../d1', '/d2', 'f0'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('1'), link: path }) },
  { weight: 1, arbitrary: fc.constant({ type: '6' }) },
);
const named = fc
  .tuple(path, metadata, kind)
  .map(([name, meta, what]): RawEntry => ({ name, ...meta, ...what }));
const whiteout = fc.tuple(path, fc.boolean()).map(
  ([name, opaque]): RawEntry => ({
    name: opaque ? name.replace(/[^/]*$/, '.wh..wh..opq') : name.replace(/[^/]*$/, '.wh.$&'),
  }),
);
const entry = fc.oneof({ weight: 5, arbitrary: named }, { weight: 1, arbitrary: whiteout });
const randomLayer = fc.uniqueArray(entry, { maxLength: 10, selector: ({ name }) => name });
