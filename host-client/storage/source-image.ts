import { headerStream, keepHeaders } from '../../shared/delta/layer-delta/header-stream.ts';
import type { SourceFile, SourceTree } from '../../shared/delta/piece.ts';
import type { Workspace } from '../../shared/delta/workspace.ts';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { LayerFile, LayerFiles } from './layer-files.ts';
import { recordedHeaders } from './tar-split-file.ts';

type Kept = SourceFile & { close(): void };

/**
 * A held image as the source of deltas: the files of its merged tree, and the headers of its layers
 * from Podman's own record of them.
 */
export class SourceImage implements SourceTree, Disposable {
  readonly #files: LayerFiles;
  readonly #recordOf: (layer: Digest) => string | undefined;
  readonly #workspace: Workspace;
  readonly #headers = new Map<Digest, Kept>();

  /** `recordOf` finds the tar-split record of a layer of the image. */
  constructor(
    files: LayerFiles,
    recordOf: (layer: Digest) => string | undefined,
    workspace: Workspace,
  ) {
    this.#files = files;
    this.#recordOf = recordOf;
    this.#workspace = workspace;
  }

  open(path: string): LayerFile {
    return this.#files.open(path);
  }

  expect(path: string): void {
    this.#files.expect(path);
  }

  async openHeaders(layer: Digest): Promise<SourceFile> {
    const known = this.#headers.get(layer);
    if (known !== undefined) return known;
    const record = this.#recordOf(layer);
    if (record === undefined) {
      throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'the held image has no such layer', {
        where: layer,
        hint: 'Update with --full, which needs no source.',
      });
    }
    const stream = headerStream(recordedHeaders(record));
    const headers = await keepHeaders(stream, this.#workspace, layer);
    this.#headers.set(layer, headers);
    return headers;
  }

  close(): void {
    for (const headers of this.#headers.values()) headers.close();
    this.#files.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
