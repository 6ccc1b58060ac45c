/**
 * Rebuilds layers from their deltas, one after the other, as a machine does: from the source's files
 * and headers, each digest checked. Run: `apply-layers TREE HEADERS OUT (DIFF_ID DELTA)...`; each
 * layer is written over the one before.
 */
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSourceFolder } from '../../../gateway/cli/source-folder.ts';
import { fileWorkspace } from '../../../gateway/delta/file-workspace.ts';
import { LAYER_DELTA_MAGIC } from '../../../shared/delta/layer-delta/header.ts';
import { applyLayerDelta } from '../../../shared/delta/layer-delta/reader.ts';
import type { Piece, SourceFile } from '../../../shared/delta/piece.ts';
import { applyTarDiff } from '../../../shared/delta/tar-diff.ts';
import { type Digest, digestHex } from '../../../shared/digest.ts';

const RUN_BYTES = 256 * 1024;

const [tree = '', headers = '', out = '', ...layers] = process.argv.slice(2);
const folder = openSourceFolder(tree);
const source = { ...folder, openHeaders: async (layer: Digest) => openHeaders(layer) };
for (let i = 0; i + 1 < layers.length; i += 2) {
  const [diffId = '', delta = ''] = layers.slice(i, i + 2);
  const found = await write(pieces(delta), out);
  if (found !== diffId) throw new Error(`${delta} gives back ${found}`);
}
folder.close();

function pieces(delta: string): AsyncIterable<Piece> {
  const packed = createReadStream(delta);
  return isOwn(delta)
    ? applyLayerDelta(packed, { source, workspace: fileWorkspace(tmpdir()) })
    : applyTarDiff(packed, source);
}

function isOwn(delta: string): boolean {
  const fd = openSync(delta, 'r');
  const start = Buffer.alloc(LAYER_DELTA_MAGIC.length);
  readSync(fd, start);
  closeSync(fd);
  return start.equals(LAYER_DELTA_MAGIC);
}

function openHeaders(layer: Digest): SourceFile {
  const fd = openSync(join(headers, digestHex(layer)), 'r');
  const read = (target: Uint8Array, offset: number) =>
    readSync(fd, target, 0, target.length, offset);
  return { path: layer, size: fstatSync(fd).size, read };
}

/** Writes pieces in runs, and returns their digest. */
async function write(tar: AsyncIterable<Piece>, path: string): Promise<string> {
  const fd = openSync(path, 'w');
  const hash = createHash('sha256');
  const run = Buffer.allocUnsafe(RUN_BYTES);
  let used = 0;
  const put = (bytes: Uint8Array) => {
    hash.update(bytes);
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
  };
  for await (const { bytes } of tar) {
    if (used + bytes.length > RUN_BYTES) {
      put(run.subarray(0, used));
      used = 0;
    }
    if (bytes.length > RUN_BYTES) put(bytes);
    else {
      run.set(bytes, used);
      used += bytes.length;
    }
  }
  put(run.subarray(0, used));
  closeSync(fd);
  return `sha256:${hash.digest('hex')}`;
}
