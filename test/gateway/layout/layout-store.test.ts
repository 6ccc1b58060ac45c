import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ArchiveStore } from '../../../gateway/layout/archive-store.ts';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { openReference } from '../../../gateway/layout/open-reference.ts';
import { digestHex, sha256 } from '../../../shared/digest.ts';
import type { ContentStore, StoredManifest } from '../../../shared/oci/content.ts';
import { parseManifest } from '../../../shared/oci/manifest.ts';
import {
  OCI_CONFIG,
  OCI_EMPTY,
  OCI_LAYER_TAR,
  OCI_MANIFEST,
} from '../../../shared/oci/media-types.ts';
import { parseReference } from '../../../shared/oci/reference.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-layout-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function collect(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function put(store: ContentStore, mediaType: string, content: string | Buffer) {
  const bytes = Buffer.from(content);
  const descriptor = { mediaType, digest: sha256(bytes), size: bytes.length };
  await store.putBlob(descriptor, once(bytes));
  return descriptor;
}

function stored(manifest: object): StoredManifest {
  const bytes = Buffer.from(JSON.stringify(manifest));
  return { bytes, digest: sha256(bytes), mediaType: OCI_MANIFEST };
}

/** A layer of one empty tar (two zero blocks): what real tools accept. */
const EMPTY_TAR = Buffer.alloc(10_240);

async function putImage(store: ContentStore, tag?: string, note = ''): Promise<StoredManifest> {
  const layer = await put(store, OCI_LAYER_TAR, EMPTY_TAR);
  const rootfs = { type: 'layers', diff_ids: [layer.digest] };
  const config = { architecture: 'amd64', os: 'linux', rootfs, config: { Labels: { note } } };
  const configBlob = await put(store, OCI_CONFIG, JSON.stringify(config));
  const manifest = stored({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: configBlob,
    layers: [layer],
  });
  await store.putManifest(manifest, tag);
  return manifest;
}

async function putReferrer(store: ContentStore, subject: StoredManifest): Promise<StoredManifest> {
  const empty = await put(store, OCI_EMPTY, '{}');
  const { digest, mediaType, bytes } = subject;
  const manifest = stored({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    artifactType: 'application/x-test',
    config: empty,
    layers: [],
    subject: { mediaType, digest, size: bytes.length },
    annotations: { a: 'b' },
  });
  await store.putManifest(manifest);
  return manifest;
}

const PLACES = {
  'oci:': async () => LayoutStore.create(join(dir, 'layout')),
  'oci-archive:': async () => ArchiveStore.create(join(dir, 'archive.tar')),
};

describe.each(Object.entries(PLACES))('%s as a content store', (kind, create) => {
  const ref = (tag = '') =>
    parseReference(`${kind}${join(dir, kind === 'oci:' ? 'layout' : 'archive.tar')}${tag}`);
  const finish = async (store: ContentStore) => {
    if (store instanceof ArchiveStore) {
      await store.commit();
      await store.close();
    }
  };

  it('gives back what was put, by tag and by digest', async () => {
    const store = await create();
    const image = await putImage(store, 'v1');
    await finish(store);
    const opened = await openReference(ref(':v1'));
    const read = await opened.store.getManifest(opened.tagOrDigest);
    expect(read.digest).toBe(image.digest);
    expect((await opened.store.getManifest(image.digest)).mediaType).toBe(OCI_MANIFEST);
    const [layer] = parseManifest(read.bytes).layers;
    if (layer === undefined) throw new Error('no layer');
    expect(await collect(opened.store.openBlob(layer))).toEqual(EMPTY_TAR);
    expect(await collect(opened.store.openBlob(layer, { offset: 10_000 }))).toHaveLength(240);
    expect(await opened.store.listTags()).toEqual(['v1']);
    await opened.close();
  });

  it('finds referrers, and the image without a tag beside them', async () => {
    const store = await create();
    const image = await putImage(store);
    const referrer = await putReferrer(store, image);
    await putReferrer(store, referrer);
    await finish(store);
    const opened = await openReference(ref());
    expect(opened.tagOrDigest).toBe(image.digest);
    expect(await opened.store.listReferrers(image.digest)).toEqual([
      {
        mediaType: OCI_MANIFEST,
        digest: referrer.digest,
        size: referrer.bytes.length,
        artifactType: 'application/x-test',
        annotations: { a: 'b' },
      },
    ]);
    await opened.close();
  });

  it('moves a tag and refuses to guess among several images', async () => {
    const store = await create();
    await putImage(store, 'v1', 'old');
    const moved = await putImage(store, 'v1', 'new');
    await putImage(store, 'v2', 'other');
    await finish(store);
    const opened = await openReference(ref(':v1'));
    expect((await opened.store.getManifest('v1')).digest).toBe(moved.digest);
    await opened.close();
    await expect(openReference(ref())).rejects.toMatchObject({ code: 'REFERENCE_INVALID' });
    const missing = await openReference(ref(':v9'));
    await expect(missing.store.getManifest('v9')).rejects.toMatchObject({
      code: 'MANIFEST_UNKNOWN',
    });
    await missing.close();
  });

  it('refuses a blob that is not what it claims to be, and leaves nothing of it', async () => {
    const store = await create();
    const claim = { digest: sha256('right'), size: 5 };
    await expect(store.putBlob(claim, once(Buffer.from('wrong')))).rejects.toMatchObject({
      code: 'DIGEST_INVALID',
    });
    await expect(store.putBlob(claim, once(Buffer.from('right and more')))).rejects.toMatchObject({
      code: 'SIZE_INVALID',
    });
    await expect(store.putBlob(claim, once(Buffer.from('rig')))).rejects.toMatchObject({
      code: 'SIZE_INVALID',
    });
    expect(await store.hasBlob(claim.digest)).toBe(false);
    await finish(store);
    const left = readdirSync(dir, { recursive: true }).filter((n) => String(n).includes('tmp-'));
    expect(left).toEqual([]);
  });

  it('is read and written by skopeo', async (context) => {
    if (spawnSync('skopeo', ['--version']).status !== 0) {
      context.skip('skopeo is not installed');
    }
    const store = await create();
    const image = await putImage(store, 'v1');
    await finish(store);
    const from = `${kind}${join(dir, kind === 'oci:' ? 'layout' : 'archive.tar')}:v1`;
    const copies = [`oci:${join(dir, 'copy')}:x`, `oci-archive:${join(dir, 'copy.tar')}:x`];
    for (const copy of copies) {
      execFileSync('skopeo', ['copy', '--quiet', '--preserve-digests', from, copy]);
      const opened = await openReference(parseReference(copy));
      const read = await opened.store.getManifest('x');
      expect(read.digest).toBe(image.digest);
      const blobs = parseManifest(read.bytes);
      for (const blob of [blobs.config, ...blobs.layers]) {
        expect(sha256(await collect(opened.store.openBlob(blob)))).toBe(blob.digest);
      }
      await opened.close();
    }
  });
});

describe('a layout folder', () => {
  it('reports damage of a blob', async () => {
    const store = await LayoutStore.create(dir);
    const blob = await put(store, OCI_CONFIG, 'content');
    const path = join(dir, 'blobs/sha256', digestHex(blob.digest));
    writeFileSync(path, 'CONTENT');
    await expect(collect(store.openBlob(blob))).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
    await truncate(path, 3);
    await expect(collect(store.openBlob(blob))).rejects.toMatchObject({ code: 'SIZE_INVALID' });
    await rm(path);
    await expect(collect(store.openBlob(blob))).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
  });

  it('does not read from what is no regular file', async () => {
    const store = await LayoutStore.create(dir);
    const blob = { digest: sha256('x'), size: 1 };
    symlinkSync('/dev/zero', join(dir, 'blobs/sha256', digestHex(blob.digest)));
    await expect(collect(store.openBlob(blob))).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
  });

  it('keeps every entry of writes that happen together', async () => {
    const store = await LayoutStore.create(dir);
    const tags = ['a', 'b', 'c', 'd', 'e', 'f'];
    await Promise.all(tags.map((tag) => putImage(store, tag, tag)));
    expect((await store.listTags()).sort()).toEqual(tags);
  });

  it('is removed again when it is new and not committed', async () => {
    const ref = parseReference(`oci:${join(dir, 'new')}`);
    const first = await openReference(ref, { mode: 'write' });
    await putImage(first.store, 'v1');
    await first.close();
    expect(existsSync(join(dir, 'new'))).toBe(false);
    const second = await openReference(ref, { mode: 'write' });
    await putImage(second.store, 'v1');
    await second.commit();
    await second.close();
    await (await openReference(ref, { mode: 'write' })).close();
    expect(await (await LayoutStore.open(join(dir, 'new'))).listTags()).toEqual(['v1']);
  });

  it('takes a blob whose size is not known, and no other and no longer one', async () => {
    const store = await LayoutStore.create(dir);
    const body = () => once(Buffer.from('content'));
    expect(await store.putBlobOfDigest(sha256('content'), body(), 7)).toBe(7);
    const other = store.putBlobOfDigest(sha256('other'), body(), 7);
    await expect(other).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
    const long = store.putBlobOfDigest(sha256('content'), body(), 6);
    await expect(long).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    expect(await store.hasBlob(sha256('other'))).toBe(false);
  });

  it('says so when a folder is no layout', async () => {
    await expect(LayoutStore.open(dir)).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
  });
});

describe('an archive', () => {
  it('changes nothing without commit', async () => {
    const store = await ArchiveStore.create(join(dir, 'a.tar'));
    await putImage(store, 'v1');
    await store.close();
    expect(readdirSync(dir)).toEqual([]);
  });

  it('keeps what it held when something is added', async () => {
    const path = join(dir, 'a.tar');
    const first = await ArchiveStore.create(path);
    const image = await putImage(first, 'v1');
    await first.commit();
    await first.close();
    const second = await ArchiveStore.create(path);
    const referrer = await putReferrer(second, image);
    await second.commit();
    await second.close();
    expect(readdirSync(dir)).toEqual(['a.tar']);
    const third = await ArchiveStore.open(path);
    expect((await third.listReferrers(image.digest)).map((r) => r.digest)).toEqual([
      referrer.digest,
    ]);
    expect((await third.getManifest('v1')).digest).toBe(image.digest);
    await third.close();
  });

  it('reads archives of GNU tar, with long names and a leading ./', async () => {
    const layout = join(dir, 'layout');
    const image = await putImage(await LayoutStore.create(layout), 'v1');
    const long = join(layout, 'x'.repeat(120), 'y'.repeat(120));
    mkdirSync(long, { recursive: true });
    writeFileSync(join(long, 'z'), 'z');
    for (const format of ['gnu', 'pax']) {
      const path = join(dir, `${format}.tar`);
      execFileSync('tar', ['-C', layout, `--format=${format}`, '-cf', path, '.']);
      const store = await ArchiveStore.open(path);
      expect((await store.getManifest('v1')).digest).toBe(image.digest);
      await store.close();
    }
  });

  it.each([
    ['compressed', Buffer.from([0x1f, 0x8b, ...new Array(600).fill(0)])],
    ['no tar', Buffer.from('not a tar at all'.repeat(64))],
  ])('refuses a file that is %s', async (_what, bytes) => {
    writeFileSync(join(dir, 'bad.tar'), bytes);
    await expect(ArchiveStore.open(join(dir, 'bad.tar'))).rejects.toMatchObject({
      code: 'TAR_INVALID',
    });
  });

  it('refuses an archive that is cut short', async () => {
    const path = join(dir, 'a.tar');
    const store = await ArchiveStore.create(path);
    await putImage(store, 'v1');
    await store.commit();
    await store.close();
    expect(existsSync(path)).toBe(true);
    await truncate(path, 5000);
    await expect(ArchiveStore.open(path)).rejects.toMatchObject({ code: 'TAR_INVALID' });
  });
});
