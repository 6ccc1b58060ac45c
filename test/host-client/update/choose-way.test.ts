import { describe, expect, it } from 'vitest';
import { chooseWay, findOffers } from '../../../host-client/update/choose-way.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import { LAYER_DELTA, TAR_DIFF } from '../../../shared/oci/media-types.ts';
import { FakeStorage } from '../../support/fake-storage.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { putTinyDelta } from '../../support/tiny-delta.ts';
import { putTinyImage } from '../../support/tiny-image.ts';
import { chooseIn, fakeApi, fetched, signIn, targetOf } from './fixture.ts';

const FILLER = 'x'.repeat(5000);

/** A machine that holds v1, and a registry with v2 and a delta between them, all signed. */
async function scene() {
  const store = new MemoryStore();
  const storage = new FakeStorage('/tmp');
  const base = { 'usr/base': 'same' };
  const old = await putTinyImage(store, [base, { lib: '1' }, { last: 'z' }]);
  const random = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7919) % 251));
  const fresh = await putTinyImage(store, [base, { lib: random }, { last: 'z' }], {
    tag: 'stable',
    packing: 'none',
  });
  await signIn(store, fresh.stored);
  const held = storage.hold(old);
  const delta = await putTinyDelta(store, old, fresh);
  const target = await targetOf(store, 'stable');
  const artifact = { digest: delta.digest, size: delta.bytes.length };
  const ready = { method: 'delta', state: 'ready', sourceConfig: old.config, artifact } as const;
  return { store, storage, old, fresh, held, delta, target, ready };
}

type Scene = Awaited<ReturnType<typeof scene>>;

async function choose(
  { store, storage, target, held }: Scene,
  api: ReturnType<typeof fakeApi> | undefined,
) {
  const context = chooseIn(store, storage, api);
  const offers = await findOffers(context, target, [held]);
  return chooseWay(context, target, offers);
}

describe('the way to the target', () => {
  it('is a signed delta, counted by its own manifest', async () => {
    const all = await scene();
    await signIn(all.store, all.delta);
    const { way, fallbackReason } = await choose(all, fakeApi(all.fresh, [all.ready]));
    expect(fallbackReason).toBeUndefined();
    expect(way.layers.map((layer) => layer.kind)).toEqual(['reused', 'delta', 'reparented']);
    const blob = way.fetch[0];
    expect(way).toMatchObject({ method: 'delta', source: all.held });
    expect(way.bytes).toBe((blob?.size ?? 0) + all.delta.bytes.length);
  });

  it('is the full one, with what storage lacks only, when the registry is no gateway', async () => {
    const all = await scene();
    const { way } = await choose(all, undefined);
    expect(way).toMatchObject({ method: 'full' });
    expect(fetched(way)).toEqual([all.fresh.layers[1]?.digest]);
    expect(way.bytes).toBe(all.fresh.layers[1]?.size);
  });

  it.for([
    ['is not signed', 'SIGNATURE_MISSING', async () => undefined],
    [
      'is for another source',
      'DELTA_SOURCE_MISMATCH',
      async (all: Scene) => all.storage.hold(await putTinyImage(all.store, [{ other: '1' }])),
    ],
  ] as const)('is the full one when the delta %s', async ([, code, change]) => {
    const all = await scene();
    const other = await change(all);
    const source = other ?? all.held;
    if (other !== undefined) await signIn(all.store, all.delta);
    const api = fakeApi(all.fresh, [{ ...all.ready, sourceConfig: source.config }]);
    const context = chooseIn(all.store, all.storage, api);
    const offers = await findOffers(context, all.target, [source]);
    const { way, fallbackReason } = await chooseWay(context, all.target, offers);
    expect(way.method).toBe('full');
    expect(fallbackReason).toContain(code);
    expect(all.store.reads).not.toContain(`blob ${all.delta.digest}`);
  });

  it('is the full one when the delta is for another target', async () => {
    const all = await scene();
    const other = await putTinyImage(all.store, [{ else: '1' }]);
    const wrong = await putTinyDelta(all.store, all.old, other);
    await signIn(all.store, wrong);
    const artifact = { digest: wrong.digest, size: 1 };
    const { way, fallbackReason } = await choose(
      all,
      fakeApi(all.fresh, [{ ...all.ready, artifact }]),
    );
    expect(way.method).toBe('full');
    expect(fallbackReason).toContain('DELTA_INVALID');
  });

  it('is the full one when the delta is not smaller', async () => {
    const all = await scene();
    const large = await putTinyDelta(all.store, all.old, all.fresh, async () => FILLER.repeat(4));
    await signIn(all.store, large);
    const artifact = { digest: large.digest, size: large.bytes.length };
    const { way, fallbackReason } = await choose(
      all,
      fakeApi(all.fresh, [{ ...all.ready, artifact }]),
    );
    expect(way.method).toBe('full');
    expect(fallbackReason).toContain('not smaller');
  });

  it('takes no word of a gateway that plans for another image', async () => {
    const all = await scene();
    await signIn(all.store, all.delta);
    const { way, fallbackReason } = await choose(all, fakeApi(all.old, [all.ready]));
    expect(way.method).toBe('full');
    expect(fallbackReason).toContain('another image');
  });

  it('waits for a delta that is being made', async () => {
    const all = await scene();
    await signIn(all.store, all.delta);
    const open = { method: 'delta', state: 'absent', sourceConfig: all.old.config } as const;
    const done = { state: 'done', artifact: all.ready.artifact } as const;
    const api = fakeApi(all.fresh, [open], [{}, { progress: 0.5 }, done]);
    expect((await choose(all, api)).way.method).toBe('delta');
    expect(api.calls).toEqual(['plan', 'request', 'ask', 'ask']);
  });

  it('does not wait longer than configured', async () => {
    const all = await scene();
    const open = { method: 'delta', state: 'computing', sourceConfig: all.old.config } as const;
    const api = fakeApi(all.fresh, [open]);
    const { way, fallbackReason } = await choose(all, api);
    expect(way.method).toBe('full');
    expect(fallbackReason).toContain('not within 10 s');
    expect(api.calls).toEqual(['plan', 'request', 'ask', 'ask', 'ask']);
  });

  it('says why the gateway made no delta', async () => {
    const all = await scene();
    const open = { method: 'delta', state: 'absent', sourceConfig: all.old.config } as const;
    const error = { code: 'DELTA_REFUSED', message: 'too\u001b[31m large' };
    const { fallbackReason } = await choose(
      all,
      fakeApi(all.fresh, [open], [{ state: 'failed', error }]),
    );
    expect(fallbackReason).toContain('DELTA_REFUSED: too?[31m large');
  });

  it.for(['UPSTREAM_UNREACHABLE', 'BUDGET_SPENT', 'OUTSIDE_WINDOW', 'CANCELLED'] as const)(
    'is no way at all after %s',
    async (code) => {
      const all = await scene();
      const error = new SnapgateError(code, 'as asked');
      const api = { ...fakeApi(all.fresh, []), plan: () => Promise.reject(error) };
      await expect(choose(all, api)).rejects.toBe(error);
    },
  );

  it('needs no gateway when storage holds every layer', async () => {
    const all = await scene();
    all.storage.hold(all.fresh);
    const api = fakeApi(all.fresh, [all.ready]);
    const { way } = await choose(all, api);
    expect(way).toMatchObject({ bytes: 0, fetch: [] });
    expect(api.calls).toEqual([]);
  });
});

describe('a delta in a more wanted format than the one that is ready', () => {
  async function chosen(make: number, more: { lineRate?: number; smallestDelta?: number } = {}) {
    const all = await scene();
    await signIn(all.store, all.delta);
    const better = await putTinyDelta(all.store, all.old, all.fresh, async () => 'better', {
      kind: 'snapgate',
    });
    await signIn(all.store, better);
    const ready = { ...all.ready, bytes: 1000, format: TAR_DIFF };
    const open = {
      ...({ method: 'delta', state: 'absent', sourceConfig: all.old.config } as const),
      ...{ format: LAYER_DELTA, seconds: { make, build: 1 } },
    };
    const made = { state: 'done', artifact: { digest: better.digest, size: 1 } } as const;
    const api = fakeApi(all.fresh, [ready, open], [made]);
    const { lineRate, smallestDelta = 0 } = more;
    const context = chooseIn(all.store, all.storage, api, { lineRate });
    const config = { ...context.config, smallestDelta };
    const offers = await findOffers(context, all.target, [all.held]);
    const { way } = await chooseWay({ ...context, config }, all.target, offers);
    return way.layers.map((layer) => ('fetch' in layer ? layer.fetch.mediaType : ''))[1];
  }

  it('is waited for while that takes no longer than fetching', async () => {
    expect(await chosen(10)).toBe(LAYER_DELTA);
    expect(await chosen(10, { lineRate: 90 })).toBe(LAYER_DELTA);
    expect(await chosen(10, { lineRate: 110 })).toBe(TAR_DIFF);
    expect(await chosen(10, { smallestDelta: 1001 })).toBe(TAR_DIFF);
  });
});
