import { headerStream, keepHeaders } from '../../shared/delta/layer-delta/header-stream.ts';
import type { Piece, SourceFile, SourceTree } from '../../shared/delta/piece.ts';
import type { Workspace } from '../../shared/delta/workspace.ts';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentReader } from '../../shared/oci/content.ts';
import type { ImageConfig, Manifest } from '../../shared/oci/manifest.ts';
import { unpackLayer } from '../../shared/oci/unpack-layer.ts';

/** An image whose layers can be read. */
export type HeaderSource = {
  readonly reader: ContentReader;
  readonly image: { readonly manifest: Manifest; readonly config: ImageConfig };
};

/**
 * A source tree that also has the headers of the source image's layers, which are read from the image
 * itself. Closing it closes `tree`.
 */
export function withHeaders(
  tree: SourceTree,
  { reader, image }: HeaderSource,
  workspace: Workspace,
): SourceTree {
  const kept = new Map<Digest, SourceFile & { close(): void }>();
  return {
    open: (path) => tree.open(path),
    async openHeaders(layer) {
      const known = kept.get(layer);
      if (known !== undefined) return known;
      const blob = image.manifest.layers[image.config.rootfs.diff_ids.indexOf(layer)];
      if (blob === undefined) {
        throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'the source image has no such layer', {
          where: layer,
          hint: 'Give the very image that the delta was made from.',
        });
      }
      const tar = pieces(unpackLayer(reader.openBlob(blob), blob, layer));
      const headers = await keepHeaders(headerStream(tar), workspace, layer);
      kept.set(layer, headers);
      return headers;
    },
    close() {
      for (const headers of kept.values()) headers.close();
      tree.close();
    },
  };
}

async function* pieces(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Piece, void, void> {
  for await (const bytes of chunks) yield { bytes };
}
