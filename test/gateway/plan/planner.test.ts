import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { type DeltaState, Planner } from '../../../gateway/plan/planner.ts';
import { RepositoryFacts } from '../../../gateway/plan/repository-facts.ts';
import { Catalogue } from '../../../gateway/store/catalogue.ts';
import { FORMAT_ANNOTATION } from '../../../shared/delta/annotations.ts';
import { formatName } from '../../../shared/delta/formats.ts';
import type { Recompression } from '../../../shared/delta/machine-class.ts';
import { sha256 } from '../../../shared/digest.ts';
import { LAYER_DELTA, TAR_DIFF } from '../../../shared/oci/media-types.ts';
import { type PlanRequest, planSchema } from '../../../shared/plan.ts';
import { noise } from '../../support/bytes.ts';
import { putTinyDelta } from '../../support/tiny-delta.ts';
import { putTinyImage, putTinyIndex, type TinyImage } from '../../support/tiny-image.ts';

let dir: string;
let store: LayoutStore;
let catalogue: Catalogue;
let facts: RepositoryFacts;
let state: DeltaState;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-plan-'));
  store = await LayoutStore.create(dir);
  catalogue = Catalogue.open(':memory:');
  facts = new RepositoryFacts(catalogue);
  state = { state: 'absent', make: 266.7 };
});
afterEach(async () => {
  catalogue.close();
  await rm(dir, { recursive: true, force: true });
});

const MAKER = { set: 1, memory: 1024, lzma: '5.8.4', zstd: '1.5.7', program: '1.5.4' };
const BASE = { 'etc/base': 'base' };
const NOISE = noise('noise', 4000);

function plan(request: Partial<PlanRequest> & { target: string }) {
  const planner = new Planner({ facts, maker: MAKER, deltaState: () => state });
  return planner.plan('os/image', { have: [], ...request }, store);
}

function wholeSize(image: TinyImage): number {
  const { stored, configBytes, layers } = image;
  return layers.reduce((n, l) => n + l.size, stored.bytes.length + configBytes.length);
}

describe('a plan', () => {
  it('offers a machine that holds nothing the full pull, to the byte', async () => {
    const image = await putTinyImage(store, [BASE, { a: 'a' }], { tag: 'v1' });
    const answer = await plan({ target: 'v1', have: [sha256('unknown')] });
    expect(v.parse(planSchema, answer)).toEqual(answer);
    expect(answer.target).toEqual({
      manifest: image.stored.digest,
      config: image.config,
      platform: 'linux/amd64',
      fullBytes: wholeSize(image),
    });
    expect(answer.ways).toEqual([
      {
        method: 'full',
        state: 'ready',
        bytes: wholeSize(image),
        layers: image.layers.map(({ diffId, size }) => ({ diffId, kind: 'full', bytes: size })),
        seconds: { build: expect.any(Number) },
      },
    ]);
  });

  it('counts no layer that is held, on the same parent or on another', async () => {
    const source = await putTinyImage(store, [BASE, { x: '1' }, { top: 't' }], { tag: 'v1' });
    const target = await putTinyImage(store, [BASE, { y: '2' }, { top: 't' }], { tag: 'v2' });
    const answer = await plan({ target: 'v2', have: [source.config] });
    const [best] = answer.ways;
    expect(best?.method).toBe('full');
    expect(best?.sourceManifest).toBe(source.stored.digest);
    expect(best?.layers?.map((l) => l.kind)).toEqual(['reused', 'full', 'reparented']);
    const saved = (target.layers[0]?.size ?? 0) + (target.layers[2]?.size ?? 0);
    expect(best?.bytes).toBe(wholeSize(target) - saved);
    expect(answer.ways.map((w) => w.state)).toEqual(['ready', 'ready', 'absent']);
  });

  it('puts a ready delta first when it is the smallest, with its exact bytes', async () => {
    const source = await putTinyImage(store, [BASE, { n: NOISE }], { tag: 'v1' });
    const target = await putTinyImage(store, [BASE, { n: NOISE, m: 'm' }], { tag: 'v2' });
    const delta = await putTinyDelta(store, source, target);
    const answer = await plan({ target: 'v2', have: [source.config], formats: [TAR_DIFF] });
    expect(answer.ways[0]).toMatchObject({
      method: 'delta',
      state: 'ready',
      format: TAR_DIFF,
      sourceConfig: source.config,
      artifact: { digest: delta.digest, size: delta.bytes.length },
    });
    expect(answer.ways[0]?.layers?.map((l) => l.kind)).toEqual(['reused', 'delta']);
    const part = answer.ways[0]?.layers?.[1]?.bytes ?? 0;
    expect(answer.ways[0]?.bytes).toBe(
      delta.bytes.length + target.stored.bytes.length + target.configBytes.length + part,
    );
  });

  it('puts the full pull before a delta that is larger', async () => {
    const source = await putTinyImage(store, [{ n: 'n' }], { tag: 'v1' });
    const target = await putTinyImage(store, [{ n: 'm' }], { tag: 'v2' });
    await putTinyDelta(store, source, target, async () => 'x'.repeat(2000));
    const answer = await plan({ target: 'v2', have: [source.config] });
    expect(answer.ways.map((w) => w.method)).toEqual(['full', 'delta']);
  });

  it.each([
    ['computing', undefined],
    ['refused', 'DELTA_REFUSED: too large'],
  ] as const)('says when a delta is %s', async (name, reason) => {
    const source = await putTinyImage(store, [{ n: 'n' }], { tag: 'v1' });
    await putTinyImage(store, [{ n: 'm' }], { tag: 'v2' });
    state = name === 'refused' ? { state: name, reason } : { state: name, make: 12 };
    const answer = await plan({ target: 'v2', have: [source.config] });
    const way = answer.ways.find((w) => w.method === 'delta');
    expect(way).toMatchObject({ state: name, ...(reason ? { reason } : {}) });
  });

  it('offers no delta in a format that the client cannot read, nor to what it has', async () => {
    const source = await putTinyImage(store, [{ n: 'n' }], { tag: 'v1' });
    const target = await putTinyImage(store, [{ n: 'm' }], { tag: 'v2' });
    const other = await plan({ target: 'v2', have: [source.config], formats: ['x/y'] });
    expect(other.ways.map((w) => w.method)).toEqual(['full']);
    const same = await plan({ target: 'v2', have: [target.config] });
    expect(same.ways.map((w) => w.method)).toEqual(['full', 'full']);
    expect(same.ways[0]?.layers?.map((l) => l.kind)).toEqual(['reused']);
  });

  it('picks the platform of an index and finds sources inside indexes', async () => {
    const arm = (n: string) => putTinyImage(store, [{ n }], { architecture: 'arm64' });
    const old = { amd64: await putTinyImage(store, [{ n: 'n' }]), arm64: await arm('p') };
    const next = { amd64: await putTinyImage(store, [{ n: 'm' }]), arm64: await arm('q') };
    await putTinyIndex(store, old, 'v1');
    await putTinyIndex(store, next, 'v2');
    const have = [old.arm64.config];
    const answer = await plan({ target: 'v2', have, platform: 'linux/arm64' });
    expect(answer.target.manifest).toBe(next.arm64.stored.digest);
    expect(answer.ways.at(-1)).toMatchObject({ state: 'absent', sourceConfig: have[0] });
    await expect(plan({ target: 'v2' })).rejects.toMatchObject({ code: 'USAGE' });
    await expect(plan({ target: 'v2', platform: 'linux/s390x' })).rejects.toMatchObject({
      code: 'MANIFEST_UNKNOWN',
    });
  });

  it('ignores referrers that are no delta or belong to another image', async () => {
    const source = await putTinyImage(store, [{ n: 'n' }], { tag: 'v1' });
    const target = await putTinyImage(store, [{ n: 'm' }], { tag: 'v2' });
    const third = await putTinyImage(store, [{ n: 'o' }], { tag: 'v3' });
    await putTinyDelta(store, source, third);
    const answer = await plan({ target: 'v2', have: [source.config] });
    expect(answer.ways.map((w) => w.state)).toEqual(['ready', 'absent']);
    expect(answer.target.manifest).toBe(target.stored.digest);
  });

  it('offers a chain of deltas where nothing that is ready is smaller', async () => {
    const images = [];
    for (const n of [1, 2, 3]) {
      const files = { large: NOISE, n: `version ${n}` };
      images.push(await putTinyImage(store, [BASE, files], { tag: `v${n}` }));
    }
    const [first, second, third] = images as [TinyImage, TinyImage, TinyImage];
    const steps = [
      await putTinyDelta(store, first, second),
      await putTinyDelta(store, second, third),
    ];
    const request = { target: 'v3', have: [first.config], formats: [TAR_DIFF] };
    const answer = await plan(request);
    expect(v.parse(planSchema, answer)).toEqual(answer);
    expect(answer.chains?.map((chain) => chain.steps.map((step) => step.artifact.digest))).toEqual([
      steps.map((step) => step.digest),
    ]);
    const bytes = answer.chains?.[0]?.bytes ?? 0;
    expect(bytes).toBeLessThan(answer.ways[0]?.bytes ?? 0);
    expect((await plan({ ...request, formats: [LAYER_DELTA] })).chains).toBeUndefined();
    expect((await plan({ ...request, have: [second.config] })).chains).toBeUndefined();
    await putTinyDelta(store, first, third);
    expect((await plan(request)).chains).toBeUndefined();
  });

  describe('for a class of machines', () => {
    const CLASS = { set: 1, memory: 128, lzma: '5.8.4', zstd: '1.5.7', program: '1.5.4' };
    const nameOf = (more: Partial<Recompression> = {}) =>
      formatName({ kind: 'snapgate', recompress: { ...CLASS, ...more } });
    const pair = async () =>
      [
        await putTinyImage(store, [{ n: NOISE }], { tag: 'v1' }),
        await putTinyImage(store, [{ n: NOISE, m: 'm' }], { tag: 'v2' }),
      ] as const;

    it.each([
      ['the same class', {}, true],
      ['more memory', { memory: 1024 }, true],
      ['another zstd of its own', { program: '1.5.6' }, false],
      ['another zstd inside of Node.js', { zstd: '1.5.6' }, false],
      ['another liblzma', { lzma: '5.9.0' }, false],
      ['less memory', { memory: 32 }, false],
      ['other encoders of its own', { set: 2 }, false],
    ])('gives a delta that was made for one to %s: %s', async (_, more, isGiven) => {
      const [source, target] = await pair();
      await putTinyDelta(store, source, target, undefined, { kind: 'snapgate', recompress: CLASS });
      const answer = await plan({ target: 'v2', have: [source.config], formats: [nameOf(more)] });
      const ready = answer.ways.filter((way) => way.method === 'delta' && way.state === 'ready');
      expect(ready.map((way) => way.format)).toEqual(isGiven ? [nameOf()] : []);
    });

    it('makes one for what machine and gateway have in common', async () => {
      const [source] = await pair();
      const offered = async (more: Partial<Recompression>) => {
        const formats = [nameOf(more), LAYER_DELTA];
        const answer = await plan({ target: 'v2', have: [source.config], formats });
        return answer.ways.find((way) => way.method === 'delta')?.format;
      };
      expect(await offered({})).toBe(nameOf());
      expect(await offered({ memory: 700 })).toBe(nameOf({ memory: 256 }));
      expect(await offered({ memory: 4096, zstd: '1.5.6' })).toBe(
        nameOf({ memory: 1024, zstd: undefined }),
      );
      // The gateway's Node.js has that version inside.
      expect(await offered({ program: '1.5.7' })).toBe(nameOf({ program: '1.5.7' }));
      expect(await offered({ program: '9.9.9' })).toBe(nameOf({ program: undefined }));
      expect(await offered({ lzma: '5.2.5' })).toBe(LAYER_DELTA);
    });

    it('offers one in the most wanted format beside a lesser one that is ready', async () => {
      const [source, target] = await pair();
      await putTinyDelta(store, source, target);
      const formats = [nameOf(), LAYER_DELTA, TAR_DIFF];
      const answer = await plan({ target: 'v2', have: [source.config], formats });
      const deltas = answer.ways.filter((way) => way.method === 'delta');
      expect(deltas.map((way) => [way.state, way.format])).toEqual([
        ['ready', TAR_DIFF],
        ['absent', nameOf()],
      ]);
    });

    it('gives a delta of a class that is not known to nobody', async () => {
      const [source, target] = await pair();
      const unknown = { [FORMAT_ANNOTATION]: 'snapgate;recompress=1;disassemble=1' };
      await putTinyDelta(store, source, target, undefined, { kind: 'snapgate' }, unknown);
      const formats = [nameOf(), LAYER_DELTA, TAR_DIFF];
      for (const asked of [{ formats }, {}]) {
        const answer = await plan({ target: 'v2', have: [source.config], ...asked });
        expect(answer.ways.map((way) => way.state)).toEqual(['ready', 'absent']);
      }
    });
  });
});
