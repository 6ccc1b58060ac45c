import fc from 'fast-check';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { findChain } from '../../../gateway/plan/chains.ts';
import type { DeltaFacts, ImageFacts } from '../../../gateway/store/facts.ts';
import { type Digest, sha256 } from '../../../shared/digest.ts';
import { planSchema } from '../../../shared/plan.ts';

/** A version of an image with one layer that stays and one that is new each time. */
function version(n: number): ImageFacts {
  const layer = (id: string) => ({ diffId: sha256(id), digest: sha256(`gz ${id}`), size: 1000 });
  return {
    ...{ manifest: sha256(`manifest ${n}`), manifestSize: 10, config: sha256(`config ${n}`) },
    ...{ configSize: 10, platform: 'linux/amd64', layers: [layer('base'), layer(`top ${n}`)] },
  };
}

type Edge = { readonly from: number; readonly to: number; readonly bytes: number };

function deltaOf({ from, to, bytes }: Edge): DeltaFacts {
  const { config, layers } = version(to);
  return {
    ...{ artifact: sha256(`delta ${from} ${to} ${bytes}`), size: 1, target: version(to).manifest },
    ...{ sourceConfig: version(from).config, bytes },
    parts: [{ to: layers[1]?.digest ?? config, kind: 'delta', bytes, tarBytes: 27e6 }],
  };
}

/** Looks for a chain to version 9 among deltas; counts the images that were looked at. */
async function find(edges: readonly Edge[], held: readonly number[], below = 1e9) {
  const looked: Digest[] = [];
  const known = new Map(Array.from({ length: 40 }, (_, n) => [version(n).config, version(n)]));
  const chain = await findChain({
    ...{ target: version(9), held: held.map(version), below },
    async deltasTo(manifest) {
      looked.push(manifest);
      return edges.filter(({ to }) => version(to).manifest === manifest).map(deltaOf);
    },
    imageByConfig: async (config) => known.get(config),
  });
  const names = new Map([...known.values()].map((image, n) => [image.manifest, n]));
  const path = chain?.steps.map((step) => names.get(step.target));
  return { chain, path, looks: looked.length };
}

describe('a chain of deltas', () => {
  it('is the one with the fewest bytes, from whatever image is held', async () => {
    const edges = [
      { from: 1, to: 5, bytes: 100 },
      { from: 5, to: 9, bytes: 100 },
      { from: 1, to: 6, bytes: 20 },
      { from: 6, to: 9, bytes: 150 },
      { from: 2, to: 7, bytes: 10 },
      { from: 7, to: 8, bytes: 10 },
      { from: 8, to: 9, bytes: 10 },
    ];
    const { chain, path } = await find(edges, [1, 2]);
    expect(path).toEqual([7, 8, 9]);
    expect(chain).toMatchObject({ bytes: 30, sourceConfig: version(2).config });
    expect(chain?.seconds).toEqual({ build: 3 });
    expect((await find(edges, [1])).path).toEqual([6, 9]);
    expect((await find(edges, [3])).path).toBeUndefined();
  });

  it('is none that is no smaller than what is ready, and no single delta', async () => {
    const edges = [
      { from: 1, to: 5, bytes: 100 },
      { from: 5, to: 9, bytes: 100 },
      { from: 1, to: 9, bytes: 50 },
    ];
    expect((await find(edges, [1], 201)).path).toEqual([5, 9]);
    expect((await find(edges, [1], 200)).path).toBeUndefined();
  });

  it('leaves no layer open', async () => {
    const whole = deltaOf({ from: 1, to: 5, bytes: 10 });
    const chain = await findChain({
      ...{ target: version(9), held: [version(1)], below: 1e9 },
      deltasTo: async (manifest) =>
        manifest === version(9).manifest
          ? [deltaOf({ from: 5, to: 9, bytes: 10 })]
          : [{ ...whole, parts: [] }],
      imageByConfig: async () => version(5),
    });
    expect(chain).toBeUndefined();
  });

  it('is looked for in a bounded number of images, whatever deltas there are', async () => {
    const version = fc.integer({ min: 0, max: 30 });
    const edge = fc.record({ from: version, to: version, bytes: fc.nat(1000) });
    await fc.assert(
      fc.asyncProperty(fc.array(edge, { maxLength: 200 }), fc.nat(2000), async (edges, below) => {
        const { chain, path, looks } = await find(edges, [1], below);
        expect(looks).toBeLessThanOrEqual(12);
        if (chain === undefined) return;
        expect(chain.bytes).toBeLessThan(below);
        expect(chain.bytes).toBe(chain.steps.reduce((sum, step) => sum + step.bytes, 0));
        expect(path?.length).toBeGreaterThan(1);
        expect(path?.length).toBeLessThanOrEqual(4);
        expect(path?.at(-1)).toBe(9);
        expect(new Set(path).size).toBe(path?.length);
        const chains = v.parse(planSchema.entries.chains, [chain]);
        expect(chains).toEqual([chain]);
      }),
    );
  });
});
