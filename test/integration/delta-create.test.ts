import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, type TestContext } from 'vitest';
import { DEFAULT_LAYER_LIMITS } from '../../gateway/delta/image-side.ts';
import { SourceStore } from '../../gateway/delta/source-store.ts';
import { DiskBudget } from '../../gateway/delta/spool-file.ts';
import { WorkerPool } from '../../gateway/delta/worker-pool.ts';
import { LayoutStore } from '../../gateway/layout/layout-store.ts';
import { readDelta } from '../../gateway/plan/read-delta.ts';
import { createTransport } from '../../gateway/upstream/transport.ts';
import { TAR_DIFF } from '../../shared/oci/media-types.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { noise } from '../support/bytes.ts';
import { hasProgram } from '../support/has-program.ts';
import { imageSide, makeDelta } from '../support/made-delta.ts';
import { hasRegistry, startRegistry } from '../support/registry.ts';
import { runProgramFile, snapgate } from '../support/run-program.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { collectBytes, putTinyImage, putTinyIndex, type TinyFiles } from '../support/tiny-image.ts';

/** The same bytes with every 700th changed. */
function revised(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  for (let i = 0; i < copy.length; i += 700) copy[i] = (copy[i] ?? 0) + 1;
  return copy;
}

const LONG = `${'long-folder-name/'.repeat(14)}${'n'.repeat(120)}`;

/** Fills a folder with all that an image may hold and any user may make. */
function makeTree(root: string, version: number): void {
  const content = (seed: string, size: number) =>
    version === 1 ? noise(seed, size) : revised(noise(seed, size));
  const write = (path: string, bytes: Buffer) => {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), bytes);
  };
  write(`usr/lib/lib-1.${version}.so`, content('library', 200_000));
  write('usr/bin/tool', content('tool', 60_000));
  write(LONG, content('long', 30_000));
  write('etc/empty', Buffer.alloc(0));
  write('etc/same', noise('same', 50_000));
  write('etc/naïve name\n', content('odd', 20_000));
  const ln = (...args: string[]) => execFileSync('ln', args, { cwd: root });
  ln('usr/bin/tool', 'usr/bin/hard link');
  ln('-s', LONG, 'symlink');
  execFileSync('mkfifo', [join(root, 'fifo')]);
  write('sparse', Buffer.alloc(0));
  appendFileSync(join(root, 'sparse'), content('start', 10_000));
  truncateSync(join(root, 'sparse'), 9 * 1024 ** 3);
  appendFileSync(join(root, 'sparse'), content('end', 10_000));
}

async function newStore(ctx: TestContext) {
  const dir = await temporaryFolder(ctx);
  return { dir, store: await LayoutStore.create(join(dir, 'images')) };
}

describe('deltas of layers that GNU tar wrote', () => {
  it.for([
    ['gnu', []],
    ['posix', []],
    ['posix', ['--sparse-version=0.0']],
    ['posix', ['--sparse-version=0.1']],
  ] as const)('are rebuilt by tar-patch: %s %s', async ([format, options], ctx) => {
    ctx.skip(!hasProgram('tar-patch'), 'tar-patch is not installed');
    const { dir, store } = await newStore(ctx);
    const tars = [1, 2].map((version) => {
      const root = join(dir, `v${version}`);
      makeTree(root, version);
      const tar = join(dir, `v${version}.tar`);
      const args = ['-S', `--format=${format}`, ...options, '--sort=name', '--numeric-owner'];
      execFileSync('tar', [...args, '-cf', tar, '-C', root, '.']);
      return readFileSync(tar);
    }) as [Buffer, Buffer];
    await putTinyImage(store, [tars[0]], { tag: 'v1' });
    await putTinyImage(store, [tars[1]], { tag: 'v2', packing: 'zstd' });
    const created = await makeDelta(store, dir);
    // What changed are some hundred bytes; the library has another name.
    expect(created.layers).toMatchObject([{ kind: 'delta' }]);
    expect(created.deltaBytes).toBeLessThan(26_000);
    const delta = await readDelta(store, 'delta');
    const [part] = [...delta.parts.values()];
    expect(part?.mediaType).toBe(TAR_DIFF);
    if (part === undefined) return;
    writeFileSync(join(dir, 'delta'), await collectBytes(store.openBlob(part)));
    execFileSync('tar-patch', [join(dir, 'delta'), join(dir, 'v1'), join(dir, 'rebuilt')]);
    expect(readFileSync(join(dir, 'rebuilt')).equals(tars[1])).toBe(true);
  });
});

describe('the files of a source image', () => {
  it('are those that Podman unpacks', async (ctx) => {
    ctx.skip(process.getuid?.() !== 0, 'not root');
    ctx.skip(!hasProgram('podman'), 'podman is not installed');
    const { dir, store } = await newStore(ctx);
    const file = (seed: string) => noise(seed, 1000);
    const link = (linkname: string) => ({ type: 'link', linkname }) as const;
    const layers: TinyFiles[] = [
      {
        'usr/lib/': { type: 'directory' },
        lib: { type: 'symlink', linkname: 'usr/lib' },
        ...{ 'usr/lib/a.so': file('a'), 'etc/conf': file('conf'), 'etc/gone': file('gone') },
        ...{ 'opt/x/1': file('x1'), 'opt/y/2': file('y2'), 'opt/3': file('3') },
        ...{ 'var/dir/file': file('dir'), 'var/file': file('file'), 'bin/one': file('one') },
        'bin/two': link('bin/one'),
      },
      {
        ...{ 'lib/b.so': file('b'), 'lib/.wh.a.so': '', 'etc/.wh.gone': '', '.wh.nothing': '' },
        ...{ 'opt/x/new': file('new'), 'opt/x/.wh..wh..opq': '', 'opt/.wh.y': '' },
        ...{ 'var/dir': file('a file now'), 'var/file/': { type: 'directory' } },
        ...{ 'var/file/inside': file('inside'), 'bin/.wh.one': '', 'bin/three': link('bin/two') },
      },
      { 'etc/conf': file('conf2'), 'etc/conf3': link('etc/conf'), 'bin/two': file('two') },
    ];
    await putTinyImage(store, layers, { tag: 'v1' });
    const podman = async (...args: string[]) => {
      const places = ['--root', join(dir, 'storage'), '--runroot', join(dir, 'run')];
      const all = [...places, '--storage-driver=vfs', ...args];
      const done = await runProgramFile('podman', all, { cwd: dir });
      if (done.status !== 0) throw new Error(done.stderr);
      return done.stdout.trim();
    };
    const id = await podman('pull', '-q', 'oci:images:v1');
    const root = await podman('image', 'mount', id);
    const find = ['-type', 'f', '-printf', '%P\\n'];
    const paths = execFileSync('find', [root, ...find], { encoding: 'utf8' })
      .trim()
      .split('\n');
    const unpacked = paths.sort().map((path) => {
      const content = readFileSync(join(root, path));
      return [path, createHash('sha256').update(content).digest('hex')];
    });
    await podman('image', 'unmount', id);
    const pool = new WorkerPool(1);
    ctx.onTestFinished(() => pool.close());
    const source = await SourceStore.build(await imageSide(store, 'v1'), {
      ...{ folder: dir, pool, budget: new DiskBudget(1e9), limits: DEFAULT_LAYER_LIMITS },
      entries: { maxEntries: 10_000, maxEntryBytes: 10_000_000 },
      ...{ signal: new AbortController().signal, onRead: () => {} },
    });
    const merged = Array.from({ length: source.fileCount }, (_, file) => [
      ...[source.path(file), source.contents.digest(source.contentOf(file))],
    ]);
    source.close();
    expect(unpacked).toHaveLength(9);
    expect(merged).toEqual(unpacked);
  });
});

describe('a full disk', () => {
  it('ends the making of a delta with what to do, and leaves nothing', async (ctx) => {
    ctx.skip(process.getuid?.() !== 0, 'not root');
    const { dir, store } = await newStore(ctx);
    await putTinyImage(store, [{ app: noise('app', 2_000_000) }], { tag: 'v1' });
    await putTinyImage(store, [{ app: revised(noise('app', 2_000_000)) }], { tag: 'v2' });
    const small = join(dir, 'small');
    mkdirSync(small);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'snapgate-test', small]);
    try {
      const refs = ['v1', 'v2'].map((tag) => `oci:${join(dir, 'images')}:${tag}`) as [
        string,
        string,
      ];
      const { status, stdout } = await snapgate([
        ...['delta', 'create', '--source', refs[0], '--target', refs[1], '--json'],
        ...['--output', `oci:${join(dir, 'out')}`, '--temporary-dir', small],
      ]);
      expect([status, JSON.parse(stdout).error.code]).toEqual([6, 'NO_SPACE']);
      expect(readdirSync(small)).toEqual([]);
      expect(readdirSync(dir).sort()).toEqual(['images', 'small']);
    } finally {
      execFileSync('umount', [small]);
    }
  });
});

describe('snapgate delta create', () => {
  const app = noise('app', 200_000);

  async function images(ctx: TestContext) {
    const { dir, store } = await newStore(ctx);
    for (const [tag, content] of [
      ['v1', app],
      ['v2', revised(app)],
    ] as const) {
      const amd64 = await putTinyImage(store, [{ app: content }], { tag: `${tag}-single` });
      const arm64 = await putTinyImage(store, [{ 'app-arm': content }], { architecture: 'arm64' });
      const only = await putTinyImage(store, [{ app: content }], { architecture: tag });
      await putTinyIndex(store, { amd64, arm64, [tag]: only }, tag);
    }
    const oci = `oci:${join(dir, 'images')}`;
    const create = async (source: string, target: string, ...more: string[]) => {
      const refs = ['--source', `${oci}:${source}`, '--target', `${oci}:${target}`];
      const output = ['--output', `oci:${join(dir, 'out')}`, '--temporary-dir', dir];
      const ended = await snapgate(['delta', 'create', ...refs, ...output, ...more]);
      return { ...ended, json: more.includes('--json') ? JSON.parse(ended.stdout) : undefined };
    };
    return { dir, create };
  }

  it('makes a delta for every platform that both images have', async (ctx) => {
    const { dir, create } = await images(ctx);
    const { status, json } = await create('v1', 'v2', '--json');
    expect(status).toBe(0);
    const names = json.platforms.map((one: { platform: string }) => one.platform);
    expect(names).toEqual(['linux/amd64', 'linux/arm64']);
    expect(json.layers).toMatchObject([{ kind: 'delta' }, { kind: 'delta' }]);
    expect(json.deltaBytes).toBeLessThan(json.fullBytes / 10);
    expect(json.seconds).toBeGreaterThan(0);
    expect(json.peakRssBytes).toBeGreaterThan(1e7);
    const output = await LayoutStore.open(join(dir, 'out'));
    for (const { artifact, target } of json.platforms) {
      expect((await readDelta(output, artifact)).facts.target).toBe(target);
    }
  });

  it('takes the platform that is asked for, or that of an image that stands alone', async (ctx) => {
    const { create } = await images(ctx);
    const asked = await create('v1', 'v2', '--json', '--platform', 'linux/arm64');
    expect(asked.json.platforms).toMatchObject([{ platform: 'linux/arm64' }]);
    const single = await create('v1-single', 'v2', '--json');
    expect(single.json.platforms).toMatchObject([{ platform: 'linux/amd64' }]);
    const other = await create('v1', 'v2', '--json', '--platform', 'linux/riscv64');
    expect([other.status, other.json.error.code]).toEqual([5, 'MANIFEST_UNKNOWN']);
  });

  it('prints a table for people', async (ctx) => {
    const { create } = await images(ctx);
    const { status, stdout, stderr } = await create('v1-single', 'v2-single');
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/layer +kind +bytes/);
    expect(stdout).toMatch(/for the whole image \(\d\.\d%\)\ndelta sha256:/);
  });

  it('refuses what it cannot do and leaves nothing behind', async (ctx) => {
    const { dir, create } = await images(ctx);
    for (const [args, code] of [
      [['v1', 'v1'], 'DELTA_REFUSED'],
      [['v1', 'v2', '--format', 'vcdiff'], 'USAGE'],
      [['v1', 'v2', '--memory', 'much'], 'USAGE'],
      [['v1', 'v2', '--threads', '0'], 'USAGE'],
      [['v1', 'v2', '--push'], 'USAGE'],
      [['v1', 'none'], 'MANIFEST_UNKNOWN'],
    ] as const) {
      const [source, target, ...more] = args;
      const { status, json } = await create(source, target, '--json', ...more);
      expect([json.error.code, status > 0]).toEqual([code, true]);
    }
    expect(execFileSync('ls', [dir], { encoding: 'utf8' })).toBe('images\n');
  });
});

describe('snapgate delta create --push', () => {
  it('puts the delta beside the target, from a source in another repository', async (ctx) => {
    ctx.skip(!hasRegistry(), 'docker-registry is not installed');
    const registry = await startRegistry();
    ctx.onTestFinished(() => registry.stop());
    const { transport, close } = createTransport();
    ctx.onTestFinished(close);
    const baseUrl = new URL(registry.url);
    const open = (repository: string) => new Repository({ transport, baseUrl, repository });
    const app = noise('app', 200_000);
    await putTinyImage(open('os/stable'), [{ app }], { tag: 'v1' });
    const target = await putTinyImage(open('os/edge'), [{ app: revised(app) }], { tag: 'v2' });
    const ended = await snapgate([
      ...['delta', 'create', '--push', '--json'],
      ...['--source', `docker://${baseUrl.host}/os/stable:v1`],
      ...['--target', `docker://${baseUrl.host}/os/edge:v2`],
    ]);
    expect(ended.status).toBe(0);
    const [artifact] = JSON.parse(ended.stdout).platforms;
    const referrers = await open('os/edge').listReferrers(target.stored.digest);
    expect(referrers.map(({ digest }) => digest)).toEqual([artifact.artifact]);
    const delta = await readDelta(open('os/edge'), artifact.artifact);
    expect(delta.facts.target).toBe(target.stored.digest);
    // The tag still means the image.
    expect((await open('os/edge').getManifest('v2')).digest).toBe(target.stored.digest);
  });
});
