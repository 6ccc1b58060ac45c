import { type ApplyOptions, applyLayerDelta } from '../../shared/delta/layer-delta/reader.ts';
import { LayerDeltaWriter } from '../../shared/delta/layer-delta/writer.ts';
import type { SourceTree } from '../../shared/delta/piece.ts';
import { MEMORY_WORKSPACE } from '../../shared/delta/workspace.ts';
import { type Digest, digestHex, sha256 } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { readTar } from '../../shared/tar/reader.ts';

/** A source tree in memory. Headers by diff_id. */
export type MemorySource = {
  readonly files: Readonly<Record<string, Buffer>>;
  readonly headers?: ReadonlyMap<Digest, Buffer>;
};

export function memoryTree({ files, headers }: MemorySource): SourceTree {
  const sourceFile = (path: string, bytes: Buffer | undefined) => {
    if (bytes === undefined) {
      throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'no such file', { where: path });
    }
    const read = (target: Uint8Array, offset: number) => bytes.copy(target, 0, offset);
    return { path, size: bytes.length, read };
  };
  return {
    open: (path) => sourceFile(path, Object.hasOwn(files, path) ? files[path] : undefined),
    openHeaders: async (layer) => sourceFile(layer, headers?.get(layer)),
    close() {},
  };
}

/** The same source for the simple reader. */
export function simpleSource({ files, headers }: MemorySource) {
  const byHex = [...(headers ?? [])].map(([digest, bytes]) => [digestHex(digest), bytes] as const);
  return { files, headers: Object.fromEntries(byHex) };
}

/** A layer's tar stream without the contents of its regular files. */
export async function headerStreamOf(tar: Buffer): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  async function* pieces() {
    yield { bytes: tar };
  }
  for await (const event of readTar(pieces())) {
    if (event.kind === 'entry') parts.push(event.raw);
    else if (event.kind !== 'content') parts.push(Buffer.from(event.bytes));
  }
  return Buffer.concat(parts);
}

/** A delta that `fill` writes, for a tar stream. */
export async function writeLayerDelta(
  target: Buffer,
  sourceLayers: readonly Digest[],
  fill: (writer: LayerDeltaWriter) => Promise<void>,
): Promise<Buffer> {
  const body: Uint8Array[] = [];
  const writer = new LayerDeltaWriter(
    { level: 19, windowLog: 23, hasMuchNew: false },
    async (bytes) => {
      body.push(bytes);
    },
  );
  await fill(writer);
  const output = { size: target.length, digest: sha256(target), sourceLayers };
  const header = await writer.finish(output);
  return Buffer.concat([header, ...body]);
}

/** Applies a delta with the real reader, from chunks of `cut` bytes. */
export async function applyInMemory(
  delta: Buffer,
  source: MemorySource,
  options: Partial<ApplyOptions> = {},
  cut = 1000,
): Promise<Buffer> {
  async function* chunks() {
    for (let at = 0; at < delta.length; at += cut) yield delta.subarray(at, at + cut);
  }
  const out: Buffer[] = [];
  const all = { source: memoryTree(source), workspace: MEMORY_WORKSPACE, ...options };
  for await (const piece of applyLayerDelta(chunks(), all)) {
    if (piece.source !== undefined) {
      const same = Buffer.alloc(piece.bytes.length);
      piece.source.file.read(same, piece.source.offset);
      if (!same.equals(piece.bytes)) throw new Error('a piece is not what its source holds');
    }
    out.push(Buffer.from(piece.bytes));
  }
  return Buffer.concat(out);
}
