import type { Digest } from '../../shared/digest.ts';
import { buildSeconds, roundEstimate, unpackedBytes } from '../../shared/estimate.ts';
import type { PlanLayer, PlanWay } from '../../shared/plan.ts';
import { fullLayers, layerBytes } from '../delta/layer-plan.ts';
import type { DeltaFacts, ImageFacts } from '../store/facts.ts';

/** Bytes of a whole image: its manifest, its config and every layer. */
export function fullBytes(target: ImageFacts): number {
  return layerBytes(target, fullLayers(target, []));
}

/** The way of pulling whole layers; `source` is the held image that it builds on. */
export function fullWay(target: ImageFacts, source?: ImageFacts): PlanWay {
  const layers = fullLayers(target, source === undefined ? [] : [source]);
  const from =
    source === undefined ? {} : { sourceConfig: source.config, sourceManifest: source.manifest };
  const packedBytes = layers.reduce((sum, layer) => sum + layer.bytes, 0);
  const build = buildSeconds({ packedBytes, rebuiltBytes: 0, encodeSeconds: 0 });
  return {
    ...{ method: 'full', ...from, state: 'ready', bytes: layerBytes(target, layers), layers },
    seconds: { build: roundEstimate(build) },
  };
}

/** The way of a delta that exists. Undefined when it leaves a layer of the target open. */
export function readyDeltaWay(
  target: ImageFacts,
  source: ImageFacts,
  delta: DeltaFacts,
): PlanWay | undefined {
  const parts = new Map(delta.parts.map((part) => [part.to, part]));
  const used = new Set<Digest>();
  const layers: PlanLayer[] = [];
  for (const layer of fullLayers(target, [source])) {
    const digest = target.layers[layers.length]?.digest;
    if (layer.kind !== 'full' || digest === undefined) {
      layers.push(layer);
      continue;
    }
    const part = parts.get(digest);
    if (part === undefined) return undefined;
    layers.push({
      diffId: layer.diffId,
      kind: part.kind,
      bytes: used.has(digest) ? 0 : part.bytes,
    });
    used.add(digest);
  }
  return {
    ...{ method: 'delta', sourceConfig: source.config, sourceManifest: source.manifest },
    ...{ bytes: delta.bytes, layers, seconds: { build: roundEstimate(deltaSeconds(delta)) } },
    ...(delta.format === undefined ? {} : { format: delta.format }),
    ...{ state: 'ready', artifact: { digest: delta.artifact, size: delta.size } },
  };
}

/** Seconds that building from a delta takes, without the layers that are held. */
function deltaSeconds({ parts, encodeSeconds = 0 }: DeltaFacts): number {
  const sum = (kind: 'delta' | 'full', bytesOf: (part: DeltaFacts['parts'][number]) => number) =>
    parts.filter((part) => part.kind === kind).reduce((all, part) => all + bytesOf(part), 0);
  return buildSeconds({
    packedBytes: sum('full', (part) => part.bytes),
    rebuiltBytes: sum('delta', (part) => part.tarBytes ?? unpackedBytes(part.bytes)),
    encodeSeconds,
  });
}

/** A delta that cannot be fetched now; `make` are the seconds until it is there. */
export function openDeltaWay(
  target: ImageFacts,
  source: ImageFacts,
  format: string,
  found:
    | { readonly state: 'absent' | 'computing'; readonly make: number }
    | { readonly state: 'refused'; readonly reason: string },
): PlanWay {
  const rebuiltBytes = unpackedBytes(missingBytes(target, source));
  const build = roundEstimate(buildSeconds({ packedBytes: 0, rebuiltBytes, encodeSeconds: 0 }));
  return {
    ...{ method: 'delta', sourceConfig: source.config, sourceManifest: source.manifest },
    ...{ format, state: found.state },
    ...(found.state === 'refused'
      ? { reason: found.reason }
      : { seconds: { make: roundEstimate(found.make), build } }),
  };
}

/** Bytes of the layers, as they travel, that a machine misses which holds `source`. */
export function missingBytes(target: ImageFacts, source: ImageFacts): number {
  return fullLayers(target, [source]).reduce((sum, layer) => sum + layer.bytes, 0);
}

/** Whether any layer of the target is missing on a machine that holds `source`. */
export function needsLayers(target: ImageFacts, source: ImageFacts): boolean {
  return fullLayers(target, [source]).some((layer) => layer.kind === 'full');
}

const STATE_ORDER = { ready: 0, computing: 1, absent: 2, refused: 3 } as const;

/** Ready ones first, smallest first; at equal size the full pull, which needs no delta to apply. */
export function sortWays(ways: readonly PlanWay[]): PlanWay[] {
  const rank = (way: PlanWay) => [
    STATE_ORDER[way.state],
    way.bytes ?? 0,
    way.method === 'full' ? 0 : 1,
  ];
  return [...ways].sort((a, b) => {
    const [left, right] = [rank(a), rank(b)];
    for (const [i, value] of left.entries()) {
      const difference = value - (right[i] ?? 0);
      if (difference !== 0) return difference;
    }
    return 0;
  });
}
