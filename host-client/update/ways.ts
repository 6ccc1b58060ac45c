import type { DeltaBounds } from '../../shared/delta/annotations.ts';
import { nameOfNote, parseFormatName } from '../../shared/delta/formats.ts';
import type { Digest } from '../../shared/digest.ts';
import type { Descriptor } from '../../shared/oci/manifest.ts';
import { LAYER_DELTA, layerCompression, TAR_DIFF } from '../../shared/oci/media-types.ts';
import type { HeldImage, LayerSource, Storage } from '../storage/storage.ts';
import type { TrustedDelta } from './delta-artifact.ts';
import { distinct, type Target } from './target.ts';

/** Media types of layer deltas that can be applied here, most wanted first. */
const LAYER_DELTA_FORMATS: readonly string[] = [LAYER_DELTA, TAR_DIFF];

/** A layer that is in storage: on the same parent, or on another one. */
export type HeldLayer = LayerSource & { readonly kind: 'reused' | 'reparented' };
/** A layer that something travels for: a layer delta, or the layer itself. */
export type FetchedLayer = LayerSource & {
  readonly kind: 'delta' | 'full';
  readonly fetch: Descriptor;
};
/** How one layer comes to the machine. */
export type LayerWay = HeldLayer | FetchedLayer;

/** A way to the target that can be gone. All sizes are from signed manifests. */
export type Way = {
  readonly method: 'delta' | 'full';
  readonly layers: readonly LayerWay[];
  /** Each blob that travels, once. */
  readonly fetch: readonly Descriptor[];
  /** Bytes of these blobs. */
  readonly bytes: number;
  /** The held image that deltas are applied to. */
  readonly source?: HeldImage;
  readonly bounds?: DeltaBounds | undefined;
  /** Digest of the delta's manifest. */
  readonly artifact?: Digest;
};

type PresentStorage = Pick<Storage, 'presentDepth' | 'holdsLayer'>;

/** The way of fetching each layer that storage does not have whole: always possible. */
export async function fullWay(target: Target, storage: PresentStorage): Promise<Way> {
  return wayOf('full', await layerWays(target, storage, (layer) => layer.blob));
}

/**
 * The way through a delta. What the delta leaves out, or brings in a format that is not known here,
 * is fetched whole.
 */
export async function deltaWay(
  target: Target,
  storage: PresentStorage,
  source: HeldImage,
  delta: TrustedDelta,
): Promise<Way> {
  const layers = await layerWays(target, storage, ({ blob }) => {
    const part = delta.parts.get(blob.digest);
    const isUsable = part !== undefined && (isDelta(part) || part.digest === blob.digest);
    return isUsable ? part : blob;
  });
  const { artifact, bounds } = delta;
  return { ...wayOf('delta', layers), source, bounds, artifact };
}

/** The way of handing Podman everything, for a storage that cannot take single layers. */
export function importWay(target: Target): Way {
  const layers = target.layers.map((layer) => ({
    ...layer,
    kind: 'full' as const,
    fetch: layer.blob,
  }));
  return wayOf('full', layers);
}

async function layerWays(
  target: Target,
  storage: PresentStorage,
  fetchFor: (layer: LayerSource) => Descriptor,
): Promise<LayerWay[]> {
  const depth = await storage.presentDepth(target.layers.map((layer) => layer.diffId));
  const ways: LayerWay[] = [];
  for (const [i, layer] of target.layers.entries()) {
    if (i < depth) ways.push({ ...layer, kind: 'reused' });
    else if (await storage.holdsLayer(layer.diffId)) ways.push({ ...layer, kind: 'reparented' });
    else {
      const fetch = fetchFor(layer);
      ways.push({ ...layer, kind: isDelta(fetch) ? 'delta' : 'full', fetch });
    }
  }
  return ways;
}

function isDelta(blob: Descriptor): boolean {
  return (
    layerCompression(blob.mediaType) === undefined && LAYER_DELTA_FORMATS.includes(blob.mediaType)
  );
}

function wayOf(method: Way['method'], layers: readonly LayerWay[]): Way {
  const fetch = distinct(layers.flatMap((layer) => ('fetch' in layer ? [layer.fetch] : [])));
  return { method, layers, fetch, bytes: fetch.reduce((sum, blob) => sum + blob.size, 0) };
}

/** Whether a way has this machine pack compressed files again. */
export function usesEncoders({ bounds }: Pick<Way, 'bounds'>): boolean {
  const name = nameOfNote(bounds?.format ?? '');
  const format = name === undefined ? undefined : parseFormatName(name);
  return format?.kind === 'snapgate' && format.recompress !== undefined;
}
