import type { PlanLayer } from '../../shared/plan.ts';
import type { ImageFacts } from '../store/facts.ts';

/** How many of the lowest layers two images share: the same layers on the same parents. */
function sharedDepth(a: ImageFacts, b: ImageFacts): number {
  const end = Math.min(a.layers.length, b.layers.length);
  for (let i = 0; i < end; i += 1) {
    if (a.layers[i]?.diffId !== b.layers[i]?.diffId) return i;
  }
  return end;
}

/**
 * How each layer of the target comes to a machine that holds some images, when layers travel whole.
 * A layer that occurs twice in the target travels once.
 */
export function fullLayers(target: ImageFacts, held: readonly ImageFacts[]): PlanLayer[] {
  const depth = Math.max(0, ...held.map((image) => sharedDepth(image, target)));
  const present = new Set(held.flatMap((image) => image.layers.map((layer) => layer.diffId)));
  return target.layers.map(({ diffId, size }, i) => {
    if (i < depth) return { diffId, kind: 'reused', bytes: 0 };
    if (present.has(diffId)) return { diffId, kind: 'reparented', bytes: 0 };
    present.add(diffId);
    return { diffId, kind: 'full', bytes: size };
  });
}

/** Bytes that pulling takes when the layers travel as planned: manifest and config with them. */
export function layerBytes(target: ImageFacts, layers: readonly PlanLayer[]): number {
  return layers.reduce((sum, layer) => sum + layer.bytes, target.manifestSize + target.configSize);
}
