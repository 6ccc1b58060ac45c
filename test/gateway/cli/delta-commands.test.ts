import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deltaApplyCommand } from '../../../gateway/cli/delta-apply.ts';
import { deltaInspectCommand } from '../../../gateway/cli/delta-inspect.ts';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { readImage } from '../../../gateway/plan/read-image.ts';
import { runProgram } from '../../../shared/cli/command.ts';
import { OCI_LAYER_TAR } from '../../../shared/oci/media-types.ts';
import { noise } from '../../support/bytes.ts';
import { putTinyDelta, tarDiffCopying } from '../../support/tiny-delta.ts';
import { putTinyImage, type TinyImage } from '../../support/tiny-image.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-delta-cli-'));
  mkdirSync(join(dir, 'root'));
  writeFileSync(join(dir, 'root/big'), BIG);
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const BIG = noise('big', 700_000);

/** Runs a command and gives its exit status and output. */
async function snapgate(...argv: string[]) {
  const out = new PassThrough();
  const err = new PassThrough();
  const commands = [deltaApplyCommand, deltaInspectCommand];
  const program = { name: 'snapgate', version: '0', summary: '', commands };
  const status = await runProgram(program, argv, { out, err }, new AbortController().signal);
  out.end();
  err.end();
  const text = (await out.toArray()).join('');
  return { status, text, json: argv.includes('--json') ? JSON.parse(text) : undefined };
}

/** A source, a target that keeps the source's first layer, and the delta between them. */
async function makeDelta(packing: 'gzip' | 'zstd' | 'none' = 'gzip') {
  const source = await LayoutStore.create(join(dir, 'source'));
  const target = await LayoutStore.create(join(dir, 'target'));
  const store = await LayoutStore.create(join(dir, 'delta'));
  const base = { base: 'base' };
  const old = await putTinyImage(source, [base, { big: BIG }], { tag: 'v1', packing });
  const fresh = { 'opt/big': BIG, new: 'new' };
  const wanted = await putTinyImage(target, [base, fresh], { tag: 'v2', packing });
  const delta = await putTinyDelta(store, old, wanted, ({ tar }) =>
    tarDiffCopying(tar, 'big', BIG),
  );
  return { old, wanted, delta };
}

function apply(...more: string[]) {
  const places = ['--source-tree', join(dir, 'root'), '--delta', `oci:${join(dir, 'delta')}`];
  return snapgate('delta', 'apply', ...places, '--output', `oci:${join(dir, 'out')}:v2`, ...more);
}

async function rebuilt(): Promise<Awaited<ReturnType<typeof readImage>>> {
  return readImage(await LayoutStore.open(join(dir, 'out')), 'v2');
}

function diffIds(image: TinyImage): string[] {
  return image.layers.map((layer) => layer.diffId);
}

describe('delta apply', () => {
  it('rebuilds the layers that changed and keeps the image id', async () => {
    const { wanted } = await makeDelta();
    const { status, json } = await apply('--json');
    expect(status).toBe(0);
    expect(json).toMatchObject({
      ...{ target: wanted.stored.digest, config: wanted.config, isOriginal: false },
      layers: [{ kind: 'reused' }, { kind: 'delta' }],
      missing: [wanted.layers[0]?.diffId],
      bytesWritten: wanted.layers[1]?.tar.length,
    });
    const image = await rebuilt();
    expect(image.stored.digest).toBe(json.manifest);
    expect(image.facts.config).toBe(wanted.config);
    const [, layer] = image.manifest.layers;
    expect(layer).toMatchObject({ mediaType: OCI_LAYER_TAR, digest: wanted.layers[1]?.diffId });
  });

  it('takes unchanged layers from the source image, for a whole image', async () => {
    const { wanted } = await makeDelta('zstd');
    const { json } = await apply('--source', `oci:${join(dir, 'source')}`, '--json');
    expect(json.missing).toEqual([]);
    const image = await rebuilt();
    const store = await LayoutStore.open(join(dir, 'out'));
    for (const layer of image.manifest.layers) expect(await store.hasBlob(layer.digest)).toBe(true);
    expect(image.config.rootfs.diff_ids).toEqual(diffIds(wanted));
  });

  it('keeps the original manifest when layers were never compressed', async () => {
    const { wanted } = await makeDelta('none');
    const { json } = await apply('--json');
    expect(json).toMatchObject({ isOriginal: true, manifest: wanted.stored.digest });
  });

  it('refuses another source tree and leaves nothing behind', async () => {
    await makeDelta();
    writeFileSync(join(dir, 'root/big'), Buffer.from(BIG).fill(0, 5, 6));
    const { status, json } = await apply('--json');
    expect([status, json.error.code]).toEqual([4, 'DIFF_ID_MISMATCH']);
    expect(existsSync(join(dir, 'out'))).toBe(false);
    await rm(join(dir, 'root/big'));
    expect((await apply('--json')).json.error.code).toBe('DELTA_SOURCE_MISMATCH');
    expect(existsSync(join(dir, 'out'))).toBe(false);
  });

  it('refuses what is no delta', async () => {
    await makeDelta();
    await rm(join(dir, 'delta'), { recursive: true });
    await putTinyImage(await LayoutStore.create(join(dir, 'delta')), [{ a: 'a' }]);
    expect((await apply('--json')).json.error.code).toBe('DELTA_INVALID');
  });

  it.each([
    ['no folder', ['--source-tree', '/nowhere']],
    ['an archive as output', ['--output', 'oci-archive:x']],
  ])('says so for %s', async (_what, more) => {
    await makeDelta();
    const { status, json } = await apply(...more, '--json');
    expect([status, json.error.code]).toEqual([2, 'USAGE']);
  });

  it('tells people what it did', async () => {
    await makeDelta();
    const { text } = await apply();
    expect(text).toContain('not the published');
    expect(text).toContain('1 unchanged layers are left out');
  });
});

describe('delta inspect', () => {
  it('shows layers, bytes, source and target', async () => {
    const { old, wanted, delta } = await makeDelta();
    const { status, json } = await snapgate(
      ...['delta', 'inspect', `oci:${join(dir, 'delta')}`, '--json'],
    );
    expect(status).toBe(0);
    expect(json).toMatchObject({
      artifact: delta.digest,
      format: 'application/vnd.tar-diff',
      source: { config: old.config, manifest: old.stored.digest },
      target: { config: wanted.config, manifest: wanted.stored.digest, platform: 'linux/amd64' },
      layers: [{ kind: 'reused', bytes: 0 }, { kind: 'delta' }],
      signatures: [],
    });
    expect(json.deltaBytes).toBeLessThan(json.fullBytes / 10);
    const { text } = await snapgate('delta', 'inspect', `oci:${join(dir, 'delta')}`);
    expect(text).toContain('not signed');
  });

  it('asks for exactly one reference', async () => {
    expect((await snapgate('delta', 'inspect', '--json')).json.error.code).toBe('USAGE');
  });
});
