import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { generateKey } from '../../../gateway/signing/encrypted-key.ts';
import { fleetSkipReason, IMAGE_NAME, TestMachine } from '../../support/fleet.ts';
import { snapgate } from '../../support/run-program.ts';
import { putTinyImage, type TinyImage } from '../../support/tiny-image.ts';
import { TestTuf } from '../../support/tuf.ts';

const PATH = 'os/image/stable';
const skip = fleetSkipReason();
const key = generateKey('word');
const images: TinyImage[] = [];
let dir: string;
let tuf: TestTuf;
let machine: TestMachine;

/** Writes a bundle of a version with what channels mean by then. */
async function exportBundle(version: number, name: string, ...more: string[]): Promise<string> {
  const file = join(dir, `${name}.tar`);
  const { status, stdout, stderr } = await snapgate([
    ...['bundle', 'export', '--target', `oci:${dir}/layout:v${version}`],
    ...['--output', `oci-archive:${file}`, '--json', ...more],
  ]);
  if (status !== 0) throw new Error(stdout + stderr);
  return file;
}
async function state(version: number): Promise<void> {
  const { stored, config } = images[version] as TinyImage;
  await tuf.stateChannel(PATH, stored, { config, version: String(version) });
  await tuf.publish();
}
const withChannels = () => ['--tuf', tuf.folder.dir];
const importing = async (file: string) => (await machine.snaphost('import', file)).json;

beforeAll(async () => {
  if (skip !== undefined) return;
  dir = await mkdtemp(join(tmpdir(), 'snapgate-offline-'));
  await writeFile(join(dir, 'key'), key.privatePem);
  await writeFile(join(dir, 'word'), 'word');
  const layout = await LayoutStore.create(join(dir, 'layout'));
  for (const version of [1, 2]) {
    const tag = `v${version}`;
    images[version] = await putTinyImage(layout, [{ 'etc/os': `${version}` }], { tag });
    const how = ['--key', join(dir, 'key'), '--password-file', join(dir, 'word')];
    await snapgate(['sign', `oci:${dir}/layout:${tag}`, ...how, '--identity', IMAGE_NAME]);
  }
  tuf = await TestTuf.create(join(dir, 'tuf'));
  const root = JSON.parse(String(await tuf.folder.metadata('1.root.json')));
  // Nobody listens there: a machine that asked would fail.
  machine = await TestMachine.create('http://127.0.0.1:1', {
    ...{ version: 1, keys: { release: { pem: key.publicPem } }, channelRoots: { os: root } },
    rules: [{ repository: IMAGE_NAME, images: { signers: ['release'] }, channel: { root: 'os' } }],
  });
});
afterAll(async () => {
  if (skip !== undefined) return;
  await machine.remove();
  await rm(dir, { recursive: true, force: true });
});

describe('a bundle for a machine that follows a channel', () => {
  it('carries what the channel means', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    expect(await importing(await exportBundle(1, 'without'))).toMatchObject({
      error: { code: 'METADATA_MISSING' },
    });
    await state(1);
    const first = await exportBundle(1, 'first', ...withChannels());
    expect(await importing(first)).toMatchObject({ to: images[1]?.stored.digest, method: 'full' });
    await state(2);
    const second = await exportBundle(2, 'second', ...withChannels());
    expect(await importing(second)).toMatchObject({ to: images[2]?.stored.digest });
    expect(await importing(first)).toMatchObject({ error: { code: 'METADATA_ROLLBACK' } });
  });

  it('does not mean another image than the one stated', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    await expect(exportBundle(1, 'none', ...withChannels())).rejects.toThrow('METADATA_MISMATCH');
    // Named as what another machine follows only.
    const { stored, config } = images[1] as TinyImage;
    await tuf.stateChannel('os/image/other', stored, { config });
    await tuf.publish();
    const other = await exportBundle(1, 'other', ...withChannels());
    expect(await importing(other)).toMatchObject({ error: { code: 'MANIFEST_UNKNOWN' } });
  });

  it('goes back when the owner states the older image anew', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    await state(1);
    const back = await exportBundle(1, 'back', ...withChannels());
    expect(await importing(back)).toMatchObject({ to: images[1]?.stored.digest });
  });

  it('leaves the way back to the machine', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const { json } = await machine.snaphost('rollback');
    expect(json.error).toBeUndefined();
    const { json: explained } = await machine.snaphost('list');
    expect(JSON.stringify(explained)).toContain(images[2]?.stored.digest ?? 'none');
  });
});
