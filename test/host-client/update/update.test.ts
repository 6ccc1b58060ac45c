import { randomBytes } from 'node:crypto';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkForUpdate } from '../../../host-client/update/check.ts';
import { readableFormats } from '../../../host-client/update/encoders.ts';
import { update } from '../../../host-client/update/update.ts';
import { verifyHeld } from '../../../host-client/update/verify-held.ts';
import { formatName } from '../../../shared/delta/formats.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import { LAYER_DELTA } from '../../../shared/oci/media-types.ts';
import { encodingDelta, packed } from '../../support/encoding-delta.ts';
import { writeLayerDelta } from '../../support/layer-delta.ts';
import { putTinyDelta, tarDiffCopying } from '../../support/tiny-delta.ts';
import { putTinyImage, type TinyImage } from '../../support/tiny-image.ts';
import { fakeApi, NAME, signIn } from './fixture.ts';
import { machineScene as scene } from './machine-scene.ts';

const LIBRARY = randomBytes(4000);
const V1 = [{ base: '1' }, { lib: LIBRARY }];
const V2 = [{ base: '1' }, { lib: LIBRARY, extra: 'new' }];

describe('an update', () => {
  it('is told of, whether it works or not', async (ctx) => {
    const { machine, publish, deployments, told } = await scene(ctx);
    const image = await publish(V1);
    await update(machine);
    deployments.failed = 'no network';
    const second = await publish(V2);
    await expect(update(machine, { automatic: true })).rejects.toThrow();
    expect(told).toMatchObject([
      { result: 'updated', method: 'full', to: image.stored.digest, bytes: 0 },
      {
        ...{ result: 'failed', error: 'POLICY_REFUSED' },
        ...{ from: image.stored.digest, to: second.stored.digest },
      },
    ]);
    expect(JSON.stringify(told)).not.toContain('no network');
  });

  it('goes through its steps in order and switches last', async (ctx) => {
    const { machine, publish, steps, storage, deployments, state } = await scene(ctx);
    const image = await publish(V1);
    const report = await update(machine);
    expect(report).toMatchObject({
      ...{ from: null, to: image.stored.digest, method: 'full', deployment: 'd0' },
      fallbackReason: null,
    });
    const order = ['recover', 'resolve', 'plan', 'room', 'download', 'build', 'register', 'deploy'];
    expect(steps).toEqual(order);
    expect(storage.calls.slice(-2)).toEqual([
      `commit ${NAME}:stable ${NAME}:id-${image.config.slice(7, 19)}`,
      'dispose',
    ]);
    expect(deployments.calls).toEqual(['create', 'switch']);
    expect(await state.lastAttempt()).toMatchObject({ result: 'updated', method: 'full' });
  });

  it('asks for nothing but the tag when it is what it was', async (ctx) => {
    const { machine, publish, store } = await scene(ctx);
    const { stored } = await publish(V1);
    await update(machine);
    store.reads.length = 0;
    expect(await update(machine)).toMatchObject({ from: stored.digest, method: 'none' });
    expect(store.reads).toEqual([]);
  });

  it('takes a delta', async (ctx) => {
    const { machine, publish, store, storage, line } = await scene(ctx);
    const old = await publish(V1);
    await update(machine);
    const fresh = await publish(V2);
    const delta = await putTinyDelta(store, old, fresh, ({ tar }) =>
      tarDiffCopying(tar, 'lib', LIBRARY),
    );
    await signIn(store, delta);
    storage.files.set('lib', LIBRARY);
    const artifact = { digest: delta.digest, size: delta.bytes.length };
    const way = { method: 'delta', state: 'ready', sourceConfig: old.config, artifact } as const;
    line.api = fakeApi(fresh, [way]);
    const { ways } = await checkForUpdate(machine);
    expect(ways.map((one) => one.method)).toEqual(['delta', 'full']);
    const report = await update(machine);
    expect(report).toMatchObject({ method: 'delta', fallbackReason: null });
    expect(report).toMatchObject({ from: old.stored.digest, to: fresh.stored.digest });
  });

  it.for([
    ['and remembers', false],
    ['but not where the plain one goes wrong too', true],
  ] as const)(
    'takes a plain delta where its encoders went wrong, tells the gateway, %s',
    async ([, isSourceBad], ctx) => {
      const { machine, publish, store, line, state } = await scene(ctx);
      const content = Buffer.from('said again and again. '.repeat(40));
      const frame = 'frame=1f8b0800000000000203';
      const file = await packed(`gnu-gzip level=1 ${frame}`, content);
      const old = await publish([{ base: '1' }]);
      await update(machine);
      const more = { filler: 'x'.repeat(50_000) };
      const options = { tag: 'stable', packing: 'none' } as const;
      const fresh = await putTinyImage(store, [{ 'doc.gz': file, ...more }], options);
      await signIn(store, fresh.stored);
      const { delta } = await encodingDelta(content, file, `gnu-gzip level=9 ${frame}`, more);
      const recompress = (await readableFormats(128 << 20))[0];
      if (recompress === undefined) throw new Error('no format');
      const promised = await putTinyDelta(store, old, fresh, async () => delta, recompress);
      const { tar } = fresh.layers[0] as TinyImage['layers'][number];
      const made = isSourceBad ? Buffer.from(tar).fill('y', 600, 601) : Buffer.from(tar);
      const literal = await writeLayerDelta(Buffer.from(tar), [], (writer) => writer.literal(made));
      const plain = await putTinyDelta(store, old, fresh, async () => literal, {
        kind: 'snapgate',
      });
      for (const one of [promised, plain]) await signIn(store, one);
      const ways = [promised, plain].map(({ digest, bytes }) => ({
        ...({ method: 'delta', state: 'ready', sourceConfig: old.config } as const),
        artifact: { digest, size: bytes.length },
      }));
      const [first, second] = ways as [(typeof ways)[0], (typeof ways)[0]];
      const name = formatName(recompress);
      line.api = fakeApi(fresh, [
        { ...first, format: name },
        { ...second, format: LAYER_DELTA },
      ]);
      const limits = { ...machine.config.limits, encoderBytes: 128 << 20 };
      const small = { ...machine, config: { ...machine.config, limits, smallestDelta: 0 } };
      const report = await update(small);
      expect(report).toMatchObject({
        ...{ method: isSourceBad ? 'full' : 'delta', to: fresh.stored.digest },
        fallbackReason: expect.stringContaining('ENCODER_MISMATCH'),
      });
      const told = line.api.calls.filter((call) => call.startsWith('report '));
      expect(told).toEqual(isSourceBad ? [] : [`report ${promised.digest} ${name}`]);
      expect((await state.distrust())?.format).toBe(isSourceBad ? undefined : name);
      const { ways: checked } = await checkForUpdate({
        ...small,
        deployments: machine.deployments,
      });
      expect(checked).toEqual([]);
    },
  );

  it('downloads only, and builds later without the line', async (ctx) => {
    const { machine, publish, store, deployments, steps } = await scene(ctx);
    const image = await publish(V1);
    const report = await update(machine, { downloadOnly: true });
    expect(report).toMatchObject({ method: 'full', deployment: null });
    expect(deployments.calls).toEqual([]);
    expect(steps).not.toContain('build');
    expect(await readdir(machine.downloads.folder)).toHaveLength(2);
    store.reads.length = 0;
    expect(await update(machine)).toMatchObject({ deployment: 'd0' });
    const layers = image.layers.map((layer) => `blob ${layer.digest}`);
    expect(store.reads.filter((read) => layers.includes(read))).toEqual([]);
    expect(await readdir(machine.downloads.folder)).toEqual([]);
  });

  it('deploys what is held without a download', async (ctx) => {
    const { machine, publish, storage } = await scene(ctx);
    storage.hold(await publish(V1), [`${NAME}:stable`]);
    expect(await update(machine)).toMatchObject({ method: 'none', deployment: 'd0' });
    expect(await update(machine, { downloadOnly: true })).toMatchObject({ method: 'none' });
  });

  it('does not try again by itself what has failed here', async (ctx) => {
    const { machine, publish, deployments } = await scene(ctx);
    await publish(V1);
    deployments.failed = 'it did not boot';
    const refused = update(machine, { automatic: true });
    await expect(refused).rejects.toMatchObject({ code: 'POLICY_REFUSED' });
    expect(deployments.calls).toEqual([]);
    expect(await update(machine)).toMatchObject({ deployment: 'd0' });
  });

  it('hands Podman everything when single layers cannot be put into storage', async (ctx) => {
    const { machine, publish, storage, state } = await scene(ctx);
    await publish(V1);
    storage.unsupported = 'Podman 9 is not known';
    await expect(update(machine)).rejects.toMatchObject({ code: 'COMMAND_FAILED' });
    expect(storage.calls).toEqual([`import ${NAME}:stable`]);
    expect(await readdir(state.path)).not.toContain('layout');
    const { ways } = await checkForUpdate(machine);
    expect(ways).toMatchObject([{ method: 'full', reason: 'Podman 9 is not known' }]);
  });

  it('notes how it failed, and lets the next one in', async (ctx) => {
    const { machine, publish, state } = await scene(ctx);
    await publish(V1);
    const down = new SnapgateError('UPSTREAM_UNREACHABLE', 'down');
    const failing = { ...machine, connect: () => Promise.reject(down) };
    await expect(update(failing)).rejects.toBe(down);
    const { code } = down;
    expect(await state.lastAttempt()).toMatchObject({ result: 'failed', error: { code } });
    expect(await update(machine)).toMatchObject({ deployment: 'd0' });
  });

  it('is the only one', async (ctx) => {
    const { machine, state } = await scene(ctx);
    await state.exclusively(async () => {
      await expect(update(machine)).rejects.toMatchObject({ code: 'ALREADY_RUNNING' });
    });
  });

  it('clears away what an earlier one has left', async (ctx) => {
    const { machine, publish, state } = await scene(ctx);
    await publish(V1);
    await mkdir(state.downloads, { recursive: true });
    await writeFile(join(state.downloads, `${'a'.repeat(64)}.part`), 'half');
    await writeFile(join(state.path, 'seen.json.0123456789ab.tmp'), 'half');
    await update(machine);
    expect(await readdir(state.downloads)).toEqual([]);
    expect((await readdir(state.path)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });
});

describe('verifying what is held', () => {
  it('reads every layer, and names one that was changed', async (ctx) => {
    const { machine, publish, storage } = await scene(ctx);
    const image = await publish(V1);
    await update(machine);
    const diffIds = image.layers.map((layer) => layer.diffId);
    const report = await verifyHeld(machine, {});
    expect(report).toMatchObject({ image: image.config, signers: ['one'] });
    expect(report.layers.map((layer) => layer.diffId)).toEqual(diffIds);
    storage.tars.set(diffIds[1] as (typeof diffIds)[0], Buffer.from('changed'));
    await expect(verifyHeld(machine, { offline: true })).rejects.toMatchObject({
      code: 'DIFF_ID_MISMATCH',
      message: expect.stringContaining(diffIds[1] ?? ''),
    });
  });

  it('finds an image by the start of its id', async (ctx) => {
    const { machine, publish } = await scene(ctx);
    const { config } = await publish(V1);
    await update(machine);
    const which = config.slice(7, 15);
    expect(await verifyHeld(machine, { which, offline: true })).toMatchObject({ image: config });
    const missing = verifyHeld(machine, { which: 'nothing', offline: true });
    await expect(missing).rejects.toMatchObject({ code: 'NOTHING_TO_DO' });
  });
});
