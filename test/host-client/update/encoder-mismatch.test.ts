import { mkdir, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { type BuildContext, buildLayers } from '../../../host-client/update/build.ts';
import { Downloads } from '../../../host-client/update/downloads.ts';
import {
  readableFormats,
  recompressingFormat,
  trustedFormats,
} from '../../../host-client/update/encoders.ts';
import { EncoderWatch } from '../../../host-client/update/watch-encoders.ts';
import type { FetchedLayer, Way } from '../../../host-client/update/ways.ts';
import { formatName, formatNote } from '../../../shared/delta/formats.ts';
import { sha256 } from '../../../shared/digest.ts';
import { type ErrorCode, SnapgateError } from '../../../shared/errors.ts';
import { LAYER_DELTA } from '../../../shared/oci/media-types.ts';
import { encodingDelta, packed } from '../../support/encoding-delta.ts';
import { FakeStorage } from '../../support/fake-storage.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { MACHINE } from './fixture.ts';

const CONTENT = Buffer.from('what a manual page says, more than once. '.repeat(50));
const FRAME = 'frame=1f8b0800000000000203';
const RECIPE = `gnu-gzip level=9 ${FRAME}`;
const CLASS = { kind: 'snapgate', recompress: MACHINE } as const;

type Context = Parameters<typeof temporaryFolder>[0];

/** Builds a layer whose compressed file was made in one way, from a delta that says another. */
async function build(ctx: Context, file: Buffer, recipe: string, format = formatNote(CLASS)) {
  const folder = await temporaryFolder(ctx);
  const downloads = new Downloads(folder);
  const storage = new FakeStorage(folder);
  const { tar, delta } = await encodingDelta(CONTENT, file, recipe);
  const fetch = { mediaType: LAYER_DELTA, digest: sha256(delta), size: delta.length };
  await mkdir(folder, { recursive: true });
  await writeFile(downloads.path(fetch), delta);
  const blob = { mediaType: 'whole', digest: sha256('whole'), size: 1e6 };
  const layer: FetchedLayer = { kind: 'delta', diffId: sha256(tar), blob, fetch };
  const context: BuildContext = {
    ...{ storage, downloads, limits: { layerBytes: 1e9, windowLog: 26, encoderBytes: 128 << 20 } },
    fetchWhole: async () => {
      throw new SnapgateError('UPSTREAM_UNREACHABLE', 'fetched whole');
    },
  };
  const held = storage.hold({
    ...{ stored: { digest: sha256('m'), mediaType: 'm', bytes: Buffer.from('m') } },
    ...{ config: sha256('c'), configBytes: Buffer.from('c'), layers: [] },
  });
  const bounds = { wireBytes: 1, temporaryBytes: 1, installedBytes: 1, windowBytes: 1, format };
  const layers = [layer];
  const way: Way = { method: 'delta', layers, fetch: [], bytes: 0, source: held, bounds };
  return await buildLayers(context, await storage.begin({ layers }), way);
}

describe('a layer with files that are packed again', () => {
  it('comes out where the encoders are those that were meant', async (ctx) => {
    const result = await build(ctx, await packed(RECIPE, CONTENT), RECIPE);
    expect(result).not.toHaveProperty('fallbackReason');
  });

  it.for([
    ['of another size', `gnu-gzip level=1 ${FRAME}`],
    ['of the same size', 'gnu-gzip level=9 frame=1f8b0800000000000007'],
  ] as const)('is an error of its own where an encoder makes bytes %s', async ([, other], ctx) => {
    const file = await packed(other, CONTENT);
    const building = build(ctx, file, RECIPE);
    await expect(building).rejects.toMatchObject({ code: 'ENCODER_MISMATCH', exitStatus: 4 });
  });

  it('is so where an encoder is not there', async (ctx) => {
    const file = await packed(RECIPE, CONTENT);
    const building = build(ctx, file, `zstd-0.1.2 level=3 workers=0 frame=28b52ffd0458`);
    await expect(building).rejects.toMatchObject({
      code: 'ENCODER_MISMATCH',
      message: expect.stringContaining('zstd-0.1.2'),
    });
  });

  it('gets no encoders from a delta that was agreed on as needing none', async (ctx) => {
    const plain = formatNote({ kind: 'snapgate' });
    const building = build(ctx, await packed(RECIPE, CONTENT), RECIPE, plain);
    await expect(building).rejects.toMatchObject({ message: 'fetched whole' });
  });
});

describe('an encoder', () => {
  it.for<[ErrorCode, ErrorCode]>([
    ['COMMAND_FAILED', 'ENCODER_MISMATCH'],
    ['LIMIT_EXCEEDED', 'ENCODER_MISMATCH'],
    ['DELTA_INVALID', 'DELTA_INVALID'],
    ['NO_SPACE', 'NO_SPACE'],
  ])('that ends with %s has its machine report %s', async ([code, found]) => {
    const watched = new EncoderWatch().watch({
      async *unpack() {},
      async *encode() {
        yield Buffer.from('some');
        throw new SnapgateError(code, 'it broke');
      },
    });
    const file = { path: 'p', size: 0, read: () => 0 };
    const read = async () => {
      for await (const _ of watched.encode(Buffer.from(RECIPE), file, 10));
    };
    await expect(read()).rejects.toMatchObject({ code: found });
  });

  it('is not blamed for a layer that used none', () => {
    const wrong = new SnapgateError('DIFF_ID_MISMATCH', 'wrong');
    expect(new EncoderWatch().judge(wrong)).toBe(wrong);
  });
});

describe('the formats of a machine', () => {
  it('hold its class first, if an encoder may take any memory', async () => {
    const formats = await readableFormats(200 * 1024 ** 2);
    expect(formats.map((format) => format.kind)).toEqual(['snapgate', 'snapgate', 'tar-diff']);
    expect(recompressingFormat(formats)).toContain(';memory=128;');
    expect(recompressingFormat(formats)).toContain(`;zstd=${process.versions.zstd}`);
    expect(await readableFormats(1000)).toEqual([{ kind: 'snapgate' }, { kind: 'tar-diff' }]);
  });

  it('lack those that went wrong, for a time and for the same class', () => {
    const formats = [CLASS, { kind: 'snapgate' }, { kind: 'tar-diff' }] as const;
    const now = Date.parse('2026-06-01');
    const day = 24 * 60 * 60 * 1000;
    const distrust = { format: formatName(CLASS), time: now };
    expect(trustedFormats(formats, undefined, now)).toEqual(formats);
    expect(trustedFormats(formats, distrust, now + 29 * day)).toEqual(formats.slice(1));
    expect(trustedFormats(formats, distrust, now + 31 * day)).toEqual(formats);
    // A clock that was wrong when it was written must not make it last for ever.
    expect(trustedFormats(formats, distrust, now - 31 * day)).toEqual(formats);
    expect(trustedFormats(formats, { ...distrust, format: 'other' }, now)).toEqual(formats);
  });
});
