import { gzipSync, zstdCompressSync } from 'node:zlib';
import { type Header, pack } from 'tar-stream';
import { type Digest, sha256 } from '../../shared/digest.ts';
import type { ContentWriter, StoredManifest } from '../../shared/oci/content.ts';
import type { Descriptor, Index } from '../../shared/oci/manifest.ts';
import {
  OCI_CONFIG,
  OCI_INDEX,
  OCI_LAYER_GZIP,
  OCI_LAYER_TAR,
  OCI_LAYER_ZSTD,
  OCI_MANIFEST,
} from '../../shared/oci/media-types.ts';

/** A file of a layer: its content, or a tar header for what is no plain file. */
export type TinyFiles = Readonly<Record<string, string | Uint8Array | Partial<Header>>>;

/** A small image that was written to a store. */
export type TinyImage = {
  readonly stored: StoredManifest;
  readonly config: Digest;
  readonly configBytes: Uint8Array;
  readonly layers: readonly (Descriptor & { diffId: Digest; tar: Uint8Array })[];
};

/** Makes the tar stream of a layer; the same files give the same bytes. */
export async function tarOf(files: TinyFiles): Promise<Buffer> {
  const archive = pack();
  for (const [name, content] of Object.entries(files)) {
    const mtime = new Date(1_700_000_000_000);
    if (typeof content === 'string' || content instanceof Uint8Array) {
      archive.entry({ name, mtime, mode: 0o644 }, Buffer.from(content));
    } else {
      archive.entry({ name, mtime, mode: 0o755, ...content });
    }
  }
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

const PACKERS = {
  none: { mediaType: OCI_LAYER_TAR, compress: (tar: Buffer) => tar },
  gzip: { mediaType: OCI_LAYER_GZIP, compress: (tar: Buffer) => gzipSync(tar) },
  zstd: { mediaType: OCI_LAYER_ZSTD, compress: (tar: Buffer) => zstdCompressSync(tar) },
} as const;

/** Writes bytes as a blob and gives its descriptor. */
export async function putBytes(
  store: ContentWriter,
  mediaType: string,
  content: string | Uint8Array,
): Promise<Descriptor> {
  const bytes = Buffer.from(content);
  const descriptor = { mediaType, digest: sha256(bytes), size: bytes.length };
  const body = async function* () {
    yield bytes;
  };
  await store.putBlob(descriptor, body());
  return descriptor;
}

/** Wraps a manifest object as its bytes. */
export function storedManifest(manifest: object, mediaType: string = OCI_MANIFEST): StoredManifest {
  const bytes = Buffer.from(JSON.stringify(manifest));
  return { bytes, digest: sha256(bytes), mediaType };
}

/** Writes a small image, one layer per set of files or tar stream. */
export async function putTinyImage(
  store: ContentWriter,
  layers: readonly (TinyFiles | Uint8Array)[],
  options: { tag?: string; packing?: keyof typeof PACKERS; architecture?: string } = {},
): Promise<TinyImage> {
  const { mediaType, compress } = PACKERS[options.packing ?? 'gzip'];
  const written: TinyImage['layers'][number][] = [];
  for (const files of layers) {
    const tar = files instanceof Uint8Array ? Buffer.from(files) : await tarOf(files);
    const descriptor = await putBytes(store, mediaType, compress(tar));
    written.push({ ...descriptor, diffId: sha256(tar), tar });
  }
  const architecture = options.architecture ?? 'amd64';
  const rootfs = { type: 'layers', diff_ids: written.map((layer) => layer.diffId) };
  const configBytes = Buffer.from(JSON.stringify({ architecture, os: 'linux', rootfs }));
  const config = await putBytes(store, OCI_CONFIG, configBytes);
  const stored = storedManifest({
    ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, config },
    layers: written.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
  });
  await store.putManifest(stored, options.tag);
  return { stored, config: config.digest, configBytes, layers: written };
}

/** Writes an index of images for several architectures. */
export async function putTinyIndex(
  store: ContentWriter,
  images: Readonly<Record<string, TinyImage>>,
  tag: string,
): Promise<StoredManifest> {
  const manifests: Index['manifests'] = Object.entries(images).map(([architecture, image]) => ({
    ...{ mediaType: OCI_MANIFEST, digest: image.stored.digest, size: image.stored.bytes.length },
    platform: { os: 'linux', architecture },
  }));
  const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests };
  const stored = storedManifest(index, OCI_INDEX);
  await store.putManifest(stored, tag);
  return stored;
}

/** Reads a stream to its end. */
export async function collectBytes(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}
