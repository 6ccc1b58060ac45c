import { execFileSync, spawnSync } from 'node:child_process';
import { createReadStream, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { LayoutStore } from '../../gateway/layout/layout-store.ts';
import type {
  BeginOptions,
  HeldImage,
  LayerSource,
  Storage,
} from '../../host-client/storage/storage.ts';
import type { Piece, SourceFile, SourceTree } from '../../shared/delta/piece.ts';
import { type Digest, digestHex, sha256 } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import { parseImageConfig, parseIndex, parseManifest } from '../../shared/oci/manifest.ts';
import {
  DOCKER_CONFIG,
  DOCKER_LAYER_GZIP,
  DOCKER_MANIFEST,
  OCI_CONFIG,
  OCI_LAYER_GZIP,
  OCI_LAYER_TAR,
  OCI_LAYER_ZSTD,
  OCI_MANIFEST,
} from '../../shared/oci/media-types.ts';
import { unpackLayer } from '../../shared/oci/unpack-layer.ts';
import { readTar } from '../../shared/tar/reader.ts';
import { putBytes, storedManifest } from './tiny-image.ts';

/** An image in an OCI layout folder, its layers given as tar streams. */
export type LayoutImage = {
  readonly layout: string;
  readonly tag: string;
  readonly manifest: StoredManifest;
  readonly config: Buffer;
  readonly layers: readonly LayerSource[];
  readonly tars: readonly Buffer[];
};

/** How the layers of an image are packed, and in which of the two formats it is. */
export type Packing = 'none' | 'gzip' | 'zstd' | 'docker';

const TYPES = {
  none: OCI_LAYER_TAR,
  gzip: OCI_LAYER_GZIP,
  zstd: OCI_LAYER_ZSTD,
  docker: DOCKER_LAYER_GZIP,
} as const;

/** Writes an image with these layers to a folder. */
export async function putLayoutImage(
  layout: string,
  tars: readonly Buffer[],
  options: { packing?: Packing; cmd?: readonly string[] } = {},
): Promise<LayoutImage> {
  mkdirSync(layout, { recursive: true });
  const store = await LayoutStore.create(layout);
  const { packing = 'none' } = options;
  const layers: LayerSource[] = [];
  for (const tar of tars) {
    const blob = await putBytes(store, TYPES[packing], pack(tar, packing));
    layers.push({ diffId: sha256(tar), blob });
  }
  const rootfs = { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) };
  const platform = { architecture: process.arch === 'arm64' ? 'arm64' : 'amd64', os: 'linux' };
  const config = Buffer.from(
    JSON.stringify({ ...platform, config: { Cmd: options.cmd ?? ['/bin/sh'] }, rootfs }),
  );
  const mediaType = packing === 'docker' ? DOCKER_MANIFEST : OCI_MANIFEST;
  const configType = packing === 'docker' ? DOCKER_CONFIG : OCI_CONFIG;
  const parts = {
    config: await putBytes(store, configType, config),
    layers: layers.map((layer) => layer.blob),
  };
  const manifest = storedManifest({ schemaVersion: 2, mediaType, ...parts }, mediaType);
  await store.putManifest(manifest, 'image');
  return { layout, tag: 'image', manifest, config, layers, tars };
}

function pack(tar: Buffer, packing: Packing): Buffer {
  if (packing === 'none') return tar;
  return packing === 'zstd' ? zstdCompressSync(tar) : gzipSync(tar);
}

/** Reads the first image of a layout folder; what is larger than memory is not read. */
export function readLayoutImage(layout: string): Omit<LayoutImage, 'tars' | 'tag'> & {
  tar(layer: LayerSource): AsyncGenerator<Piece>;
} {
  const path = (digest: Digest) => join(layout, 'blobs/sha256', digestHex(digest));
  const [entry] = parseIndex(readFileSync(join(layout, 'index.json'))).manifests;
  if (entry === undefined) throw new Error(`no image in ${layout}`);
  const { digest, mediaType } = entry;
  const bytes = readFileSync(path(digest));
  const parsed = parseManifest(bytes);
  const config = readFileSync(path(parsed.config.digest));
  const diffIds = parseImageConfig(config).rootfs.diff_ids;
  const layers = parsed.layers.map((blob, i) => ({ blob, diffId: diffIds[i] as Digest }));
  async function* tar({ blob, diffId }: LayerSource): AsyncGenerator<Piece> {
    const body = createReadStream(path(blob.digest));
    for await (const bytes of unpackLayer(body, blob, diffId)) yield { bytes };
  }
  return { layout, manifest: { digest, mediaType, bytes }, config, layers, tar };
}

/** Puts an image of a layout into storage by our own way; files of a held image are shared. */
export async function installImage(
  storage: Storage,
  layout: string,
  name: string,
  options: { held?: HeldImage; begin?: Partial<BeginOptions> } = {},
): Promise<HeldImage & { bytesWritten: number; bytesCloned: number }> {
  const image = readLayoutImage(layout);
  const total = { bytesWritten: 0, bytesCloned: 0 };
  await using transaction = await storage.begin({ layers: image.layers, ...options.begin });
  using source = options.held && storage.openSource(options.held);
  for (const layer of transaction.missing) {
    const tar = image.tar(layer);
    const result = await transaction.addLayer(layer, source ? sourcedPieces(tar, source) : tar);
    total.bytesWritten += result.bytesWritten;
    total.bytesCloned += result.bytesCloned;
  }
  const { manifest, config } = image;
  return { ...(await transaction.commit({ manifest, config, names: [name] })), ...total };
}

/** A graph root of its own and the programs that work on it. */
export class TestStorage {
  readonly graphRoot: string;
  readonly runRoot: string;

  constructor(folder: string, name = 'storage') {
    this.graphRoot = join(folder, name);
    this.runRoot = join(folder, `${name}-run`);
    mkdirSync(this.graphRoot, { recursive: true });
  }

  /** Runs podman and gives back what it printed. */
  podman(...args: string[]): string {
    return this.podmanOf('podman', ...args);
  }

  /** Runs another podman. */
  podmanOf(program: string, ...args: string[]): string {
    const storage = ['--root', this.graphRoot, '--runroot', this.runRoot];
    const options = ['--storage-driver', 'btrfs', '--runtime', 'runc'];
    const all = [...storage, ...options, '--cgroup-manager', 'cgroupfs', ...args];
    const { status, stdout, stderr } = spawnSync(program, all, { encoding: 'utf8' });
    if (status !== 0) {
      throw new Error(`podman ${args.join(' ')}: exit ${status}: ${stdout}${stderr}`);
    }
    return stdout.trim();
  }

  /** Runs a command in a container of an image and gives back what it printed. */
  runIn(image: string, ...command: string[]): string {
    return this.runInOf('podman', image, ...command);
  }

  /** The same with another podman. */
  runInOf(program: string, image: string, ...command: string[]): string {
    // Where the limits of this machine may not be raised.
    const limits = ['nofile', 'nproc'].flatMap((name) => ['--ulimit', `${name}=1024:1024`]);
    const options = ['run', '--rm', '--network', 'none', ...limits];
    return this.podmanOf(program, ...options, image, ...command);
  }

  /** Where skopeo finds an image of this storage. */
  reference(name: string): string {
    return `containers-storage:[btrfs@${this.graphRoot}+${this.runRoot}]${name}`;
  }

  /** Has skopeo put an image here, as a pull would. */
  copyIn(image: LayoutImage, name: string): void {
    const from = `oci:${image.layout}:${image.tag}`;
    execFileSync('skopeo', ['copy', '--quiet', from, this.reference(name)], { stdio: 'pipe' });
  }
}

/** The tar stream as one piece after another, none of them from a source. */
export async function* plainPieces(tar: Uint8Array, step = 50_000): AsyncGenerator<Piece> {
  for (let at = 0; at < tar.length; at += step) yield { bytes: tar.subarray(at, at + step) };
}

/**
 * The tar stream as a delta would rebuild it: the content of each file that is the same in the source
 * comes from there. `path` names where it is there.
 */
export async function* sourcedPieces(
  tar: AsyncIterable<Piece>,
  source: SourceTree,
  path: (name: string) => string = (name) => name,
): AsyncGenerator<Piece> {
  let file: SourceFile | undefined;
  for await (const event of readTar(tar)) {
    if (event.kind === 'entry') {
      yield { bytes: event.raw };
      file = event.entry.size > 0 ? openIfThere(source, path(event.entry.path)) : undefined;
    } else if (event.kind === 'content') {
      const { bytes } = event.piece;
      const { offset } = event;
      const same = Buffer.alloc(bytes.length);
      const read = file?.read(same, offset) ?? 0;
      const unchanged = read === bytes.length && same.equals(bytes);
      yield unchanged && file ? { bytes: same, source: { file, offset } } : { bytes };
    } else yield { bytes: event.bytes };
  }
}

function openIfThere(source: SourceTree, path: string): SourceFile | undefined {
  try {
    return source.open(path);
  } catch (error) {
    if (error instanceof SnapgateError) return undefined;
    throw error;
  }
}

/** Why a test that runs these programs cannot, or undefined when it can. */
export function programsSkipReason(...programs: string[]): string | undefined {
  const missing = programs.find((program) => spawnSync(program, ['--version']).status !== 0);
  return missing === undefined ? undefined : `needs ${missing}`;
}
