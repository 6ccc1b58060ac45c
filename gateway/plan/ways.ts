import type { Digest } from '../../shared/digest.ts';
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
  return { method: 'full', ...from, state: 'ready', bytes: layerBytes(target, layers), layers };
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
    ...{ bytes: delta.bytes, layers },
    ...(delta.format === undefined ? {} : { format: delta.format }),
    ...{ state: 'ready', artifact: { digest: delta.artifact, size: delta.size } },
  };
}

/** A delta that cannot be fetched now. */
export function openDeltaWay(
  source: ImageFacts,
  format: string,
  state: 'absent' | 'computing' | 'refused',
  reason?: string,
): PlanWay {
  return {
    ...{ method: 'delta', sourceConfig: source.config, sourceManifest: source.manifest },
    ...{ format, state },
    ...(reason === undefined ? {} : { reason }),
  };
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
