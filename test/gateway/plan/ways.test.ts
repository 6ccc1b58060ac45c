import { describe, expect, it } from 'vitest';
import { fullWay, openDeltaWay, readyDeltaWay } from '../../../gateway/plan/ways.ts';
import type { DeltaFacts, ImageFacts } from '../../../gateway/store/facts.ts';
import { sha256 } from '../../../shared/digest.ts';

function image(name: string, layers: readonly (readonly [string, number])[]): ImageFacts {
  return {
    ...{ manifest: sha256(`manifest ${name}`), manifestSize: 1000 },
    ...{ config: sha256(`config ${name}`), configSize: 1000, platform: 'linux/amd64' },
    layers: layers.map(([id, size]) => ({ diffId: sha256(id), digest: sha256(`gz ${id}`), size })),
  };
}

const source = image('v1', [
  ['base', 100e6],
  ['old', 60e6],
]);
const target = image('v2', [
  ['base', 100e6],
  ['new', 60e6],
]);

function delta(part: Partial<DeltaFacts['parts'][number]>, more: Partial<DeltaFacts> = {}) {
  const to = target.layers[1]?.digest ?? sha256('');
  return readyDeltaWay(target, source, {
    ...{ artifact: sha256('delta'), size: 900, target: target.manifest },
    ...{ sourceConfig: source.config, bytes: 5e6 },
    parts: [{ to, kind: 'delta', bytes: 4e6, ...part }],
    ...more,
  });
}

describe('the estimated seconds of a way', () => {
  it('are those of unpacking and writing, for whole layers', () => {
    expect(fullWay(target).seconds).toEqual({ build: 11 });
    expect(fullWay(target, source).seconds).toEqual({ build: 4 });
  });

  it('are those of rebuilding tar streams, and of encoders, for a delta', () => {
    expect(delta({ tarBytes: 270e6 })?.seconds).toEqual({ build: 10 });
    expect(delta({ tarBytes: 270e6 }, { encodeSeconds: 25 })?.seconds).toEqual({ build: 35 });
    expect(delta({ kind: 'full', bytes: 30e6 })?.seconds).toEqual({ build: 2 });
  });

  it('begin with making, for a delta that is not there', () => {
    const open = openDeltaWay(target, source, 'f', { state: 'absent', make: 123.4 });
    expect(open.seconds).toEqual({ make: 120, build: 6 });
    expect(open.bytes).toBeUndefined();
    const refused = openDeltaWay(target, source, 'f', { state: 'refused', reason: 'no' });
    expect(refused.seconds).toBeUndefined();
  });
});
