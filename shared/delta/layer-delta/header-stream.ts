import { readTar, type TarLimits } from '../../tar/reader.ts';
import type { Piece, SourceFile } from '../piece.ts';
import { type Workspace, workSource } from '../workspace.ts';

const RUN_BYTES = 256 * 1024;

/**
 * The header stream of a layer (FORMAT.md section 1) from its tar stream: all but the contents of
 * its regular files, which need not be the true ones. Throws TAR_INVALID, LIMIT_EXCEEDED.
 */
export async function* headerStream(
  tar: AsyncIterable<Piece>,
  limits?: TarLimits,
): AsyncGenerator<Uint8Array, void, void> {
  let run: Uint8Array[] = [];
  let length = 0;
  for await (const event of readTar(tar, limits)) {
    if (event.kind === 'content') continue;
    // The end's bytes belong to the producer, who may use them again.
    const bytes = event.kind === 'entry' ? event.raw : Uint8Array.from(event.bytes);
    run.push(bytes);
    length += bytes.length;
    if (length < RUN_BYTES) continue;
    yield Buffer.concat(run);
    run = [];
    length = 0;
  }
  if (length > 0) yield Buffer.concat(run);
}

/** Keeps a header stream in a workspace, to be read anywhere. */
export async function keepHeaders(
  stream: AsyncIterable<Uint8Array>,
  workspace: Workspace,
  name: string,
): Promise<SourceFile & { close(): void }> {
  const file = workspace.create(0);
  let size = 0;
  try {
    for await (const bytes of stream) {
      file.write(bytes, size);
      size += bytes.length;
    }
  } catch (error) {
    file.close();
    throw error;
  }
  return { ...workSource(file, size, name), close: () => file.close() };
}
