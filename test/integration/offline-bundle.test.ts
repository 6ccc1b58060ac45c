import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, open, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LayoutStore } from '../../gateway/layout/layout-store.ts';
import { generateKey } from '../../gateway/signing/encrypted-key.ts';
import { type Digest, digestHex } from '../../shared/digest.ts';
import { archiveFiles } from '../../shared/oci/layout/archive-files.ts';
import { parseManifest } from '../../shared/oci/manifest.ts';
import { fleetSkipReason, IMAGE_NAME, policyFor, SNAPHOST, TestMachine } from '../support/fleet.ts';
import { runProgramFile, snapgate } from '../support/run-program.ts';
import { putTinyImage, type TinyImage } from '../support/tiny-image.ts';

const skipReason = fleetSkipReason();
const library = randomBytes(400_000);
const key = generateKey('word');
const images: TinyImage[] = [];

let dir: string;
let layout: LayoutStore;
let machine: TestMachine;
let delta: Digest;

beforeAll(async () => {
  if (skipReason !== undefined) return;
  dir = await mkdtemp(join(tmpdir(), 'snapgate-bundle-'));
  await mkdir(join(dir, 'stick'));
  await mkdir(join(dir, 'ro'));
  await symlink(SNAPHOST, join(dir, 'container-snap'));
  await writeFile(join(dir, 'key'), key.privatePem);
  await writeFile(join(dir, 'word'), 'word\n');
  layout = await LayoutStore.create(join(dir, 'layout'));
  for (const version of [1, 2]) {
    const changed = Buffer.from(library);
    changed.write(`this is version ${version}`, 70_000);
    const files = [{ 'usr/lib/lib.so': changed, 'etc/version': `${version}\n` }];
    images[version] = await putTinyImage(layout, files, { tag: `v${version}` });
  }
  const [v1, v2] = [`oci:${dir}/layout:v1`, `oci:${dir}/layout:v2`];
  const made = `oci:${dir}/layout:delta`;
  delta = (await gate('delta', 'create', '--source', v1, '--target', v2, '--output', made))
    .platforms[0].artifact;
  for (const what of [v1, v2, made]) {
    const how = ['--key', join(dir, 'key'), '--password-file', join(dir, 'word')];
    await gate('sign', what, ...how, '--identity', `${IMAGE_NAME}:stable`);
  }
  // Nobody listens there: a machine that asked would fail.
  machine = await TestMachine.create('http://127.0.0.1:1', policyFor(key.publicPem));
});

afterAll(async () => {
  if (skipReason !== undefined) return;
  await machine.remove();
  await rm(dir, { recursive: true, force: true });
});

// biome-ignore lint/suspicious/noExplicitAny: tests look into whatever a command prints.
async function gate(...args: string[]): Promise<any> {
  const { status, stdout, stderr } = await snapgate([...args, '--json']);
  if (status !== 0) throw new Error(`${args[0]}: ${stdout}${stderr}`);
  return JSON.parse(stdout);
}

function exportBundle(file: string, version: number, ...more: string[]) {
  const target = ['--target', `oci:${dir}/layout:v${version}`, ...more];
  return gate('bundle', 'export', ...target, '--output', `oci-archive:${dir}/stick/${file}`);
}

/** A copy of the bundle of the delta in which one bit of a blob is another one. */
async function spoil(digest: Digest): Promise<string> {
  const path = join(dir, 'spoiled.tar');
  await copyFile(join(dir, 'stick/delta.tar'), path);
  await using file = await open(path, 'r+');
  const files = await archiveFiles(file, (await file.stat()).size, path);
  const found = await files.find(`blobs/sha256/${digestHex(digest)}`);
  if (found === undefined) throw new Error('the bundle has no such blob');
  const at = found.start + Math.floor(found.size / 2);
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  await file.write(Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, at);
  return path;
}

async function partOfDelta(): Promise<Digest> {
  const { layers } = parseManifest((await layout.getManifest(delta)).bytes);
  const part = layers.find((layer) => layer.annotations?.['io.github.containers.delta.to']);
  if (part === undefined) throw new Error('the delta has no layer');
  return part.digest;
}

describe('a machine without a line', () => {
  it('is given what it needs in one file', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const whole = await exportBundle('whole.tar', 1);
    expect(whole).toMatchObject({ method: 'full', target: images[1]?.stored.digest });
    const small = await exportBundle('delta.tar', 2, '--source', `oci:${dir}/layout:v1`);
    expect(small).toMatchObject({ method: 'delta', artifact: delta, signatures: 4 });
    expect(small.bytes).toBeLessThan(whole.bytes / 5);
    await expect(exportBundle('whole.tar', 1)).rejects.toThrow('USAGE');
  });

  it('does not take a delta for an image that it does not have', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const { status, json } = await machine.snaphost('import', join(dir, 'stick/delta.tar'));
    expect(json).toMatchObject({ error: { code: 'BLOB_UNKNOWN' } });
    expect(status).toBe(5);
  });

  it('loads an image as container-snap does, and deploys it when it is imported', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const before = machine.bootsNext();
    const file = join(dir, 'stick/whole.tar');
    const words = ['load', '-i', file, '--root', machine.root, '--json'];
    const argv = [join(dir, 'container-snap'), ...words];
    const { stdout } = await runProgramFile(process.execPath, argv);
    expect(JSON.parse(stdout)).toMatchObject({ method: 'full', image: images[1]?.config });
    expect(machine.bootsNext()).toBe(before);
    const { json } = await machine.snaphost('import', file);
    expect(json).toMatchObject({ from: null, to: images[1]?.stored.digest, method: 'none' });
    expect(await version()).toBe('1\n');
  });

  it('refuses what was changed on the way', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    for (const digest of [await partOfDelta(), images[2]?.stored.digest as Digest]) {
      const { status, json } = await machine.snaphost('import', await spoil(digest));
      expect(json).toMatchObject({ error: { code: 'DIGEST_INVALID' } });
      expect(status).toBe(4);
    }
    expect(await version()).toBe('1\n');
  });

  it('refuses what the policy does not know the signer of', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await machine.write('policy', policyFor(generateKey('word').publicPem));
    const { status, json } = await machine.snaphost('import', join(dir, 'stick/delta.tar'));
    expect([status, json.error.code]).toEqual([3, 'SIGNATURE_INVALID']);
    await machine.write('policy', policyFor(key.publicPem));
  });

  it('updates by delta from a medium that is read-only', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const place = join(dir, 'ro');
    execFileSync('mount', ['-o', 'bind,ro', join(dir, 'stick'), place]);
    try {
      await expect(writeFile(join(place, 'x'), '')).rejects.toThrow('EROFS');
      const { json } = await machine.snaphost('import', join(place, 'delta.tar'));
      expect(json).toMatchObject({
        ...{ from: images[1]?.stored.digest, to: images[2]?.stored.digest, method: 'delta' },
        ...{ bytesDownloaded: 0, fallbackReason: null },
      });
    } finally {
      execFileSync('umount', [place]);
    }
    expect(await version()).toBe('2\n');
  });
});

function version(): Promise<string> {
  return readFile(join(machine.root, machine.bootsNext(), 'etc/version'), 'utf8');
}
