import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { readImage } from '../../../gateway/plan/read-image.ts';
import { type Digest, digestHex } from '../../../shared/digest.ts';
import { unpackLayer } from '../../../shared/oci/unpack-layer.ts';

/** A layer of each image, as files that hold tar streams, and a folder with the old one's files. */
export type LayerPair = { readonly old: string; readonly fresh: string; readonly tree: string };

/**
 * The layers of the images `v1` and `v2` of a folder as tar streams, and in `here` the old image's
 * tree (`tree`) and its layout with uncompressed layers (`plain`), which is what a machine reads
 * headers from in no time.
 */
export async function unpackedLayers(folder: string, here: string): Promise<LayerPair[]> {
  const tree = join(here, 'tree');
  const [old, fresh] = [await tars(folder, 'v1', here), await tars(folder, 'v2', here)];
  // Later layers change files of earlier ones: each has a tree of its own.
  const treeOf = (tar: string) => (old.length === 1 ? tree : `${tar}.tree`);
  for (const tar of old) {
    for (const place of new Set([tree, treeOf(tar)])) {
      await mkdir(place, { recursive: true });
      execFileSync('tar', ['-C', place, '--exclude=.wh.*', '-xf', tar]);
    }
  }
  await writePlainLayout(join(here, 'plain'), folder, old);
  return fresh.map((tar, i) => {
    const before = old[Math.min(i, old.length - 1)] ?? tar;
    return { old: before, fresh: tar, tree: treeOf(before) };
  });
}

export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** A layout with an image of one layer, whose tar stream stands in a file. */
export async function writeImage(layout: string, tar: string, tag: string): Promise<void> {
  const blobs = join(layout, 'blobs/sha256');
  await mkdir(blobs, { recursive: true });
  const put = async (bytes: Buffer) => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    await writeFile(join(blobs, hex), bytes);
    return { digest: `sha256:${hex}`, size: bytes.length };
  };
  const diffId = `sha256:${await sha256Of(tar)}`;
  const packed = join(blobs, 'layer');
  execFileSync('sh', ['-c', 'gzip -6n <"$1" >"$2"', 'sh', tar, packed]);
  const hex = await sha256Of(packed);
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
  const layer = { mediaType, digest: `sha256:${hex}`, size: (await stat(packed)).size };
  await rename(packed, join(blobs, hex));
  const rootfs = { type: 'layers', diff_ids: [diffId] };
  const settings = JSON.stringify({ architecture: 'amd64', os: 'linux', config: {}, rootfs });
  const config = {
    mediaType: 'application/vnd.oci.image.config.v1+json',
    ...(await put(Buffer.from(settings))),
  };
  const manifest = {
    ...{ schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json' },
    ...{ config, layers: [layer] },
  };
  const stored = await put(Buffer.from(JSON.stringify(manifest)));
  await writeIndex(layout, stored.digest.slice('sha256:'.length), stored.size, tag);
}

async function tars(folder: string, version: string, here: string): Promise<string[]> {
  const store = await LayoutStore.open(join(folder, version));
  const { manifest, config } = await readImage(store, await store.defaultDigest());
  const files: string[] = [];
  for (const [i, layer] of manifest.layers.entries()) {
    const out = join(here, `${version}-${i}.tar`);
    const diffId = config.rootfs.diff_ids[i] as Digest;
    await pipeline(unpackLayer(store.openBlob(layer), layer, diffId), createWriteStream(out));
    files.push(out);
  }
  return files;
}

async function writePlainLayout(layout: string, folder: string, layers: readonly string[]) {
  const store = await LayoutStore.open(join(folder, 'v1'));
  const { manifest, stored } = await readImage(store, await store.defaultDigest());
  await mkdir(join(layout, 'blobs/sha256'), { recursive: true });
  const blob = (hex: string) => join(layout, 'blobs/sha256', hex);
  const config = digestHex(manifest.config.digest);
  await writeFile(blob(config), await readFile(join(folder, 'v1/blobs/sha256', config)));
  const plain: object[] = [];
  for (const tar of layers) {
    const hex = await sha256Of(tar);
    copyFileSync(tar, blob(hex));
    const mediaType = 'application/vnd.oci.image.layer.v1.tar';
    plain.push({ mediaType, digest: `sha256:${hex}`, size: (await stat(tar)).size });
  }
  const original = JSON.parse(new TextDecoder().decode(stored.bytes)) as object;
  const bytes = Buffer.from(JSON.stringify({ ...original, layers: plain }));
  const hex = createHash('sha256').update(bytes).digest('hex');
  await writeFile(blob(hex), bytes);
  await writeIndex(layout, hex, bytes.length, 'v1');
}

async function writeIndex(layout: string, hex: string, size: number, tag: string) {
  const annotations = { 'org.opencontainers.image.ref.name': tag };
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifests = [{ mediaType, digest: `sha256:${hex}`, size, annotations }];
  await writeFile(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  await writeFile(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
}
