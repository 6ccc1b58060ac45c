import { describe, expect, it } from 'vitest';
import { checkForUpdate } from '../../../host-client/update/check.ts';
import { update } from '../../../host-client/update/update.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import type { PlanChain } from '../../../shared/plan.ts';
import { putTinyDelta, tarDiffCopying } from '../../support/tiny-delta.ts';
import { putTinyImage, type TinyImage } from '../../support/tiny-image.ts';
import { fakeApi, signIn } from './fixture.ts';
import { machineScene } from './machine-scene.ts';

const FILLER = 'x'.repeat(50_000);

type Options = {
  /** Image on the way that is not signed. */
  readonly unsigned?: boolean;
  /** A delta on the way that rebuilds nothing. */
  readonly broken?: boolean;
  /** What the gateway says of the bytes. */
  readonly bytes?: number;
  readonly measured?: number;
};

/** A machine three versions behind, and two deltas that are ready, from v1 to v2 and to v3. */
async function scene(ctx: Parameters<typeof machineScene>[0], options: Options = {}) {
  const all = await machineScene(ctx);
  const { store, storage, line, machine, state } = all;
  const images: TinyImage[] = [];
  for (const n of [1, 2, 3]) {
    const files = [{ base: '1' }, { n: String(n), filler: FILLER }];
    const image = await putTinyImage(store, files, { tag: 'stable', packing: 'none' });
    if (!(n === 2 && options.unsigned)) await signIn(store, image.stored);
    images.push(image);
    if (n === 1) await update(machine);
  }
  const [first, second, third] = images as [TinyImage, TinyImage, TinyImage];
  storage.files.set('filler', Buffer.from(FILLER));
  const steps: PlanChain['steps'] = [];
  for (const [from, to] of [
    [first, second],
    [second, third],
  ] as const) {
    const isBroken = options.broken && to === second;
    const delta = await putTinyDelta(store, from, to, ({ tar }) =>
      isBroken ? Promise.resolve('nonsense') : tarDiffCopying(tar, 'filler', Buffer.from(FILLER)),
    );
    await signIn(store, delta);
    steps.push({
      ...{ target: to.stored.digest, config: to.config, bytes: 1000 },
      artifact: { digest: delta.digest, size: delta.bytes.length },
    });
  }
  const { bytes = 2000, measured } = options;
  const chain = { sourceConfig: first.config, bytes, seconds: { build: 2 }, steps };
  const api = fakeApi(third, []);
  const plan = await api.plan({ target: '', have: [] });
  if (plan === undefined) throw new Error('no plan');
  line.api = { ...api, plan: async () => ({ ...plan, chains: [chain] }) };
  if (measured !== undefined) await state.measureLine(measured * 100, 100);
  const config = { ...machine.config, smallestDelta: 0 };
  storage.calls.length = 0;
  return { ...all, machine: { ...machine, config }, first, second, third };
}

describe('a chain of deltas', () => {
  it('leads to the target, and what is on the way is removed', async (ctx) => {
    const { machine, third, second, storage, deployments, notices } = await scene(ctx);
    const { ways } = await checkForUpdate(machine);
    expect(ways.map(({ method, steps }) => [method, steps])).toEqual([
      ['delta', 2],
      ['full', 0],
    ]);
    const report = await update(machine);
    expect(report).toMatchObject({
      ...{ to: third.stored.digest, method: 'delta', fallbackReason: null },
      estimate: { bytes: ways[0]?.bytes },
    });
    expect(notices).toContainEqual(expect.stringMatching(/^by 2 deltas in a row: /));
    const held = await storage.listImages();
    expect(held.map((image) => image.config)).toContain(third.config);
    expect(held.map((image) => image.config)).not.toContain(second.config);
    expect(storage.calls).toContain(`remove ${second.config}`);
    // No deployment was made of it, and it never had the name of the channel.
    expect(deployments.all.map((one) => one.config)).not.toContain(second.config);
    const commits = storage.calls.filter((call) => call.startsWith('commit '));
    expect(commits).toEqual([
      expect.stringMatching(/^commit \S+:id-\w+$/),
      expect.stringMatching(/^commit \S+:stable \S+:id-\w+$/),
    ]);
  });

  it.for([
    ['an image on the way is not signed', { unsigned: true }, 'SIGNATURE_MISSING'],
    ['a delta on the way is broken', { broken: true }, 'DELTA_INVALID'],
  ] as const)('gives way to the whole image where %s', async ([, options, code], ctx) => {
    const { machine, third, second, storage } = await scene(ctx, options);
    const report = await update(machine);
    expect(report).toMatchObject({ to: third.stored.digest, method: 'full' });
    expect(report.fallbackReason).toContain(code);
    const held = await storage.listImages();
    expect(held.map((image) => image.config)).not.toContain(second.config);
  });

  it('is no way where the gateway has to lie to make it one', async (ctx) => {
    const { machine } = await scene(ctx, { bytes: 60_000 });
    expect(await update(machine)).toMatchObject({ method: 'full' });
  });

  it('is not gone where the line is so fast that it takes longer', async (ctx) => {
    const fast = await scene(ctx, { measured: 1e6 });
    expect(await update(fast.machine)).toMatchObject({ method: 'full' });
    const slow = await scene(ctx, { measured: 1e5 / 3 });
    expect(await update(slow.machine)).toMatchObject({ method: 'full' });
    const slower = await scene(ctx, { measured: 2e4 });
    expect(await update(slower.machine)).toMatchObject({ method: 'delta' });
  });

  it('goes on from the image that it came to', async (ctx) => {
    const { machine, second, third, storage, store } = await scene(ctx);
    const stop = {
      ...machine,
      events: {
        ...machine.events,
        step(step: string) {
          // The second image is about to be built.
          const commits = storage.calls.filter((call) => call.startsWith('commit '));
          if (step === 'room' && commits.length === 1) {
            throw new SnapgateError('CANCELLED', 'the power went');
          }
        },
      },
    };
    await expect(update(stop)).rejects.toMatchObject({
      code: 'CANCELLED',
    });
    const held = await storage.listImages();
    expect(held.map((image) => image.config)).toContain(second.config);
    store.reads.length = 0;
    expect(await update(machine)).toMatchObject({ to: third.stored.digest });
  });
});
