import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openStorage } from '../../host-client/storage/open-storage.ts';
import type { HeldImage, Storage } from '../../host-client/storage/storage.ts';
import { digestHex, sha256 } from '../../shared/digest.ts';
import { type BtrfsMount, btrfsSkipReason, mountBtrfs } from '../support/btrfs.ts';
import { hostPrograms } from '../support/host-programs.ts';
import { peerMissing, peerPath } from '../support/peers.ts';
import {
  installImage,
  type LayoutImage,
  plainPieces,
  programsSkipReason,
  putLayoutImage,
  TestStorage,
} from '../support/podman-storage.ts';
import { type RawEntry, rawTar } from '../support/raw-tar.ts';
import { describeTree } from '../support/tree.ts';

const reason = btrfsSkipReason() ?? programsSkipReason('skopeo', 'podman', 'runc');
const START = Date.now() - 5_000;
const V1 = 'localhost/os:v1';
const V2 = 'localhost/os:v2';

describe('an image put into the storage of Podman', () => {
  let mount: BtrfsMount;
  let podman: TestStorage;
  let storage: Storage;
  let v1: LayoutImage;
  let v2: LayoutImage;

  beforeAll(async () => {
    if (reason !== undefined) return;
    mount = mountBtrfs({ sizeMiB: 2048 });
    podman = new TestStorage(mount.path);
    storage = await openStorage(podman);
    [v1, v2] = await putVersions(mount.path);
    podman.copyIn(v1, V1);
  });
  afterAll(() => mount?.unmount());
  beforeEach((ctx) => ctx.skip(reason !== undefined, reason));

  const held = async (name: string): Promise<HeldImage> => {
    const found = (await storage.listImages()).find((image) => image.names.includes(name));
    if (found === undefined) throw new Error(`${name} is not held`);
    return found;
  };
  const install = async () => installImage(storage, v2.layout, V2, { held: await held(V1) });
  const subvolumes = () => readdirSync(join(podman.graphRoot, 'btrfs/subvolumes')).sort();
  const remove = async () => storage.removeImage(await held(V2));

  it('keeps its digest, and each layer is what Podman makes of it', async () => {
    const image = await install();
    expect(image.manifest).toBe(v2.manifest.digest);
    expect((await storage.readManifest(image)).bytes).toEqual(Buffer.from(v2.manifest.bytes));
    expect(await storage.readConfig(image)).toEqual(v2.config);
    expect(image.diffIds).toEqual(v2.layers.map((layer) => layer.diffId));
    const reference = new TestStorage(mount.path, 'reference');
    reference.copyIn(v2, V2);
    const theirs = await openStorage(reference);
    for (const id of image.layerIds) {
      const ours = describeTree(storage.subvolumeOf(id), START);
      expect(ours).toEqual(describeTree(theirs.subvolumeOf(id), START));
    }
    await remove();
  });

  it('leaves nothing behind but itself', async () => {
    const before = subvolumes();
    const image = await install();
    expect(readdirSync(storage.workDir).sort()).toEqual(['lock', 'staging']);
    expect(readdirSync(join(storage.workDir, 'staging'))).toEqual([]);
    expect(subvolumes()).toEqual([...new Set([...before, ...image.layerIds])].sort());
    await remove();
    expect(subvolumes()).toEqual(before);
  });

  it('runs, is pushed unchanged, and is removed and pruned by Podman', async () => {
    await install();
    expect(podman.runIn(V2, '/bin/sh', '-c', 'read x </etc/version; echo $x')).toBe('2');
    expect(podman.runIn(V2, '/bin/sha256sum', '/big')).toContain(
      sha256(readFileSync(join(await topOf(V2), 'big'))).slice('sha256:'.length),
    );
    podman.podman('push', V2, `oci:${mount.path}/pushed:x`);
    expect(pushedDiffIds('pushed')).toEqual(v2.layers.map((layer) => layer.diffId));
    const dangling = podman.podman('rmi', V2);
    expect(dangling).toContain('Deleted');
    await install();
    podman.podman('tag', V1, 'localhost/keep:1');
    podman.podman('untag', V2);
    podman.podman('image', 'prune', '--force');
    const names = (await storage.listImages()).flatMap((image) => image.names);
    expect(names.sort()).toEqual(['localhost/keep:1', V1]);
    podman.podman('untag', 'localhost/keep:1', 'localhost/keep:1');
  });

  const topOf = async (name: string) =>
    storage.subvolumeOf((await held(name)).layerIds.at(-1) ?? '');
  const pushedDiffIds = (folder: string): string[] =>
    JSON.parse(
      execFileSync('skopeo', ['inspect', '--config', `oci:${mount.path}/${folder}:x`], {
        encoding: 'utf8',
      }),
    ).rootfs.diff_ids;

  it('runs, is pushed, checked and removed by Podman 5.4', async (ctx) => {
    const missing = peerMissing('podman5');
    ctx.skip(missing !== undefined, missing);
    const program = peerPath('podman5');
    await install();
    expect(podman.podmanOf(program, 'system', 'check')).toBe('');
    expect(podman.runInOf(program, V2, '/bin/sh', '-c', 'read x </etc/version; echo $x')).toBe('2');
    podman.podmanOf(program, 'push', V2, `oci:${mount.path}/pushed5:x`);
    expect(pushedDiffIds('pushed5')).toEqual(v2.layers.map((layer) => layer.diffId));
    podman.podmanOf(program, 'rmi', V2);
    expect(podman.podmanOf(program, 'system', 'check')).toBe('');
    expect(podman.podman('images', '--noheading', '--format', '{{.Repository}}')).toContain('os');
  });

  it('writes what changed and shares the rest', async () => {
    const image = await install();
    const size = v2.tars.reduce((sum, tar) => sum + tar.length, 0);
    expect(image.bytesWritten).toBeLessThan(size / 10);
    const shared = execFileSync('btrfs', ['filesystem', 'du', '-s', '--raw', await topOf(V2)], {
      encoding: 'utf8',
    });
    const [total = 0, exclusive = 0] =
      shared.trim().split('\n').at(-1)?.trim().split(/\s+/).map(Number) ?? [];
    expect(total).toBeGreaterThan(4_000_000);
    expect(exclusive).toBeLessThan(total / 10);
    await remove();
  });

  it('gets a layer that is held on another parent without any of its bytes', async () => {
    const [, layer] = v2.layers;
    if (layer === undefined) throw new Error('no such layer');
    expect(v1.layers[1]?.diffId).toBe(layer.diffId);
    expect(await storage.holdsLayer(layer.diffId)).toBe(true);
    expect(await storage.presentDepth(v2.layers.map(({ diffId }) => diffId))).toBe(0);
    await using transaction = await storage.begin({ layers: v2.layers });
    const [base, second] = transaction.missing;
    if (base === undefined || second === undefined) throw new Error('nothing is missing');
    await transaction.addLayer(base, plainPieces(v2.tars[0] ?? Buffer.alloc(0)));
    const result = await transaction.addLayer(second, storage.reassembleLayer(layer.diffId));
    expect(result.bytesWritten).toBe(0);
    expect(result.bytesCloned).toBeGreaterThan(0);
  });

  it('is not there when the transaction is given up, nor when a layer is wrong', async () => {
    const before = subvolumes();
    {
      await using transaction = await storage.begin({ layers: v2.layers });
      const [base] = transaction.missing;
      if (base === undefined) throw new Error('nothing is missing');
      const wrong = transaction.addLayer(base, plainPieces(v2.tars[1] ?? Buffer.alloc(0)));
      await expect(wrong).rejects.toMatchObject({ code: 'DIFF_ID_MISMATCH' });
      await transaction.addLayer(base, plainPieces(v2.tars[0] ?? Buffer.alloc(0)));
      const early = transaction.commit({ manifest: v2.manifest, config: v2.config, names: [V2] });
      await expect(early).rejects.toMatchObject({ code: 'INTERNAL' });
    }
    expect(subvolumes()).toEqual(before);
    expect(readdirSync(join(storage.workDir, 'staging'))).toEqual([]);
    await expect(held(V2)).rejects.toThrow('not held');
  });

  it('takes its layers back when the image itself cannot be made', async () => {
    const before = subvolumes();
    const failing = await openStorage({ ...podman, programs: { skopeo: 'false' } });
    const installing = installImage(failing, v2.layout, V2, { held: await held(V1) });
    await expect(installing).rejects.toMatchObject({ code: 'COMMAND_FAILED' });
    expect(subvolumes()).toEqual(before);
    expect(await storage.presentDepth(v2.layers.map(({ diffId }) => diffId))).toBe(0);
    expect(podman.podman('images', '--quiet')).not.toBe('');
  });

  it('finds layers again that were packed in another way', async () => {
    const repacked = await putLayoutImage(join(mount.path, 'repacked'), v1.tars, {
      cmd: ['x'],
    });
    const image = await installImage(storage, repacked.layout, 'localhost/os:repacked');
    expect(image.bytesWritten).toBe(0);
    expect(image.manifest).toBe(repacked.manifest.digest);
    expect(image.layerIds).toEqual((await held(V1)).layerIds);
    podman.podman('push', 'localhost/os:repacked', `oci:${mount.path}/pushed-repacked:x`);
    await storage.removeImage(image);
    expect(podman.runIn(V1, '/bin/sh', '-c', 'read x </etc/version; echo $x')).toBe('1');
  });

  it.each(['none', 'zstd', 'docker'] as const)(
    'keeps its bytes when its packing is %s',
    async (packing) => {
      const other = await putLayoutImage(join(mount.path, packing), v2.tars, {
        packing,
        cmd: [packing],
      });
      const name = `localhost/os:${packing}`;
      const image = await installImage(storage, other.layout, name, { held: await held(V1) });
      expect(image.manifest).toBe(other.manifest.digest);
      const manifest = await storage.readManifest(image);
      expect(manifest.bytes).toEqual(Buffer.from(other.manifest.bytes));
      expect(manifest.mediaType).toBe(other.manifest.mediaType);
      expect(podman.runIn(name, '/bin/sh', '-c', 'echo fine')).toBe('fine');
      await storage.removeImage(image);
    },
  );

  it.for(['skopeo-trixie', 'skopeo-sid'] as const)('is made by %s as well', async (peer, ctx) => {
    const missing = peerMissing(peer);
    ctx.skip(missing !== undefined, missing);
    const programs = { skopeo: peerPath(peer) };
    const newer = await openStorage({ ...podman, programs });
    const image = await installImage(newer, v2.layout, V2, { held: await held(V1) });
    expect(image.manifest).toBe(v2.manifest.digest);
    expect(podman.runIn(V2, '/bin/sh', '-c', 'echo fine')).toBe('fine');
    await remove();
  });

  it('waits for Podman, and says so when it waits too long', async () => {
    const lock = join(podman.graphRoot, 'btrfs-layers/layers.lock');
    const before = subvolumes();
    // In a process of its own: fcntl(2) knows no locks between parts of one.
    const script = `
      import { FileLock } from ${JSON.stringify(new URL('../../host-client/system/file-lock.ts', import.meta.url).href)};
      using lock = await FileLock.acquire(process.argv[1], { timeoutMs: 0, busy: () => new Error() });
      console.log('locked');
      await new Promise((resolve) => process.stdin.once('data', resolve));
      process.stdin.destroy();`;
    const holder = spawn(process.execPath, ['--input-type=module', '-e', script, lock]);
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    const impatient = installImage(storage, v2.layout, V2, { begin: { lockTimeoutMs: 300 } });
    await expect(impatient).rejects.toMatchObject({ code: 'STORAGE_BUSY', where: lock });
    expect(subvolumes()).toEqual(before);
    const patient = install();
    holder.stdin.write('go\n');
    expect((await patient).names).toEqual([V2]);
    await remove();
  });

  it('comes to be while Podman pulls another one', async () => {
    const noise = rawTar([{ name: 'noise', content: randomBytes(40 << 20) }]);
    const other = await putLayoutImage(join(mount.path, 'other'), [noise]);
    const copying = [
      'copy',
      '--quiet',
      `oci:${other.layout}:image`,
      podman.reference('localhost/other:1'),
    ];
    const pull = spawn('skopeo', copying, { stdio: 'inherit' });
    const ended = new Promise((resolve) => pull.once('exit', resolve));
    const image = await install();
    expect(await ended).toBe(0);
    const names = (await storage.listImages()).flatMap(({ names }) => names);
    expect(names).toEqual(expect.arrayContaining([V1, V2, 'localhost/other:1']));
    expect(podman.runIn(V2, '/bin/sh', '-c', 'echo fine')).toBe('fine');
    expect(image.names).toEqual([V2]);
    podman.podman('rmi', 'localhost/other:1');
    await remove();
  });

  it('is refused while another one is being put in', async () => {
    await using first = await storage.begin({ layers: v2.layers });
    expect(first.missing.length).toBe(v2.layers.length);
    await expect(storage.begin({ layers: v2.layers })).rejects.toMatchObject({
      code: 'ALREADY_RUNNING',
    });
  });

  it('may have several names, and takes a name from the one that had it', async () => {
    const image = await install();
    await storage.addName(image, 'localhost/os:latest');
    await storage.addName(await held(V1), 'localhost/os:latest');
    expect((await held(V2)).names).toEqual([V2]);
    expect((await held(V1)).names.toSorted()).toEqual(['localhost/os:latest', V1].toSorted());
    podman.podman('untag', V1, 'localhost/os:latest');
    await storage.addName(await held(V2), 'localhost/os:other');
    await storage.removeImage(await held(V2));
    await expect(held(V2)).rejects.toThrow('not held');
  });

  it('leaves nothing when the power goes before its removal is on the disk', async () => {
    const image = await install();
    const top = storage.subvolumeOf(image.layerIds.at(-1) ?? '');
    const rest = join(mount.path, 'rest');
    execFileSync('btrfs', ['-q', 'subvolume', 'snapshot', top, rest]);
    // What the disk may hold then: Podman's records without the image, and a tree that is still there.
    const forgetful = join(mount.path, 'podman');
    const cut = `podman "$@" && case "$*" in *rmi*) btrfs -q subvolume snapshot ${rest} ${top}; exit 1;; esac`;
    writeFileSync(forgetful, `#!/bin/sh\n${cut}\n`, { mode: 0o755 });
    const interrupted = await openStorage({ ...podman, programs: { podman: forgetful } });
    await expect(interrupted.removeImage(image)).rejects.toMatchObject({ code: 'COMMAND_FAILED' });
    expect(existsSync(top)).toBe(true);
    await storage.tidy();
    expect(existsSync(top)).toBe(false);
    expect(podman.runIn(V1, '/bin/sh', '-c', 'echo fine')).toBe('fine');
  });

  it('goes into a storage that Podman never used, and by whole layers into one it does not know', async () => {
    const bare = new TestStorage(mount.path, 'bare');
    const fresh = await openStorage(bare);
    expect(await fresh.checkSupport()).toEqual({ supported: true });
    expect(await fresh.listImages()).toEqual([]);
    await installImage(fresh, v1.layout, V1);
    expect(bare.runIn(V1, '/bin/sh', '-c', 'echo fine')).toBe('fine');
    const blobs = join(v2.layout, 'blobs/sha256');
    const paths = v2.layers.map(
      ({ blob }) => [blob.digest, join(blobs, digestHex(blob.digest))] as const,
    );
    const { manifest, config } = v2;
    const image = await fresh.importImage({ manifest, config, layers: new Map(paths), name: V2 });
    expect(readdirSync(fresh.workDir).sort()).toEqual(['lock', 'staging']);
    expect(image.manifest).toBe(v2.manifest.digest);
    const old = await openStorage({ ...bare, programs: { podman: 'false' } });
    await expect(old.checkSupport()).rejects.toMatchObject({ code: 'COMMAND_FAILED' });
  });

  it('needs btrfs', async () => {
    await expect(openStorage({ graphRoot: '/proc', runRoot: '/run' })).rejects.toMatchObject({
      code: 'NOT_BTRFS',
    });
  });
});

/** Two versions of a system that can run: a large file that changed a little, a layer that did not. */
async function putVersions(folder: string): Promise<[LayoutImage, LayoutImage]> {
  const programs = hostPrograms('sh', 'sha256sum');
  const big = randomBytes(4_000_123);
  const changed = Buffer.from(big);
  changed.fill(7, 1_000_000, 1_010_000);
  // Every folder is named: Podman 5.4 checks those that are not against what it does not know.
  const folders = ['proc', 'sys', 'dev', 'etc', 'tmp'].map((name) => ({ name, type: '5' }));
  const base = (content: Buffer, version: string, more: RawEntry[]) =>
    rawTar([
      ...folders,
      ...programs,
      { name: 'big', content },
      { name: 'etc/version', content: `${version}\n` },
      ...more,
    ]);
  const middle = rawTar([
    { name: 'srv', type: '5' },
    { name: 'srv/data', content: 'the same in both\n'.repeat(1000) },
  ]);
  const top = rawTar([
    { name: 'etc', type: '5' },
    { name: 'etc/.wh.old' },
    { name: 'etc/new', content: 'x', mode: 0o4700 },
  ]);
  const old = [{ name: 'etc/old', content: 'gone in the second version' }];
  const tars1 = [base(big, '1', old), middle];
  const tars2 = [base(changed, '2', old), middle, top];
  return [
    await putLayoutImage(join(folder, 'v1'), tars1, { packing: 'gzip' }),
    await putLayoutImage(join(folder, 'v2'), tars2, { packing: 'gzip' }),
  ];
}
