import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { collectOffline } from '../../../gateway/tuf/collect.ts';
import { delegate } from '../../../gateway/tuf/edit.ts';
import { TufFolder } from '../../../gateway/tuf/folder.ts';
import { signOnline } from '../../../gateway/tuf/online.ts';
import { rotate } from '../../../gateway/tuf/rotate.ts';
import { addSignature } from '../../../gateway/tuf/sign.ts';
import { takeOver } from '../../../gateway/tuf/take-over.ts';
import { putMetadata, TUF_TAG } from '../../../shared/tuf/artifact.ts';
import { encodeMetadata, parseMetadata } from '../../../shared/tuf/metadata.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { putTinyImage } from '../../support/tiny-image.ts';
import { newSigner, roleOf, TestTuf, TufClient } from '../../support/tuf.ts';

const PATH = 'os/image/stable';

/** A repository of a publisher, a registry, and the folder of a gateway that follows it. */
async function scene(ctx: Parameters<typeof temporaryFolder>[0]) {
  const dir = await temporaryFolder(ctx);
  const tuf = await TestTuf.create(join(dir, 'publisher'));
  const registry = new MemoryStore();
  const image = await putTinyImage(registry, [{ a: '1' }], { tag: 'v1' });
  const folder = await TufFolder.openOrCreate(join(dir, 'gateway'));
  const team = newSigner();
  const push = async () => putMetadata(registry, await collectOffline(tuf.folder), TUF_TAG);
  const pull = () => takeOver(folder, { reader: registry, tag: TUF_TAG, images: () => registry });
  const sign = () => {
    const { snapshot, timestamp } = tuf.keys;
    const times = { snapshotSeconds: 600, timestampSeconds: 600 };
    return signOnline(folder, { snapshot, timestamp, ...times }, tuf.now);
  };
  const asked = { ...roleOf([team], 1), pattern: 'apps/*' };
  await delegate(tuf.folder, await tuf.state(), 'apps', asked, { now: tuf.now });
  await tuf.publish([team]);
  const { stored, config } = image;
  await tuf.stateChannel(PATH, stored, { config });
  await tuf.stateChannel('apps/a/stable', stored, { config }, 'apps');
  await tuf.publish([team]);
  const anchor = (await tuf.folder.metadata('1.root.json')) ?? Buffer.alloc(0);
  const client = TufClient.over(folder, join(dir, 'client'), anchor);
  return { tuf, registry, image, folder, push, pull, sign, client };
}

describe('a gateway that follows a registry', () => {
  it('takes over what was published, and signs it', async (ctx) => {
    const { tuf, image, folder, push, pull, sign, client } = await scene(ctx);
    await push();
    expect(await pull()).toEqual(['1.root.json', '3.targets.json', '2.apps.json']);
    await sign();
    expect((await client.find(PATH)).statement.digest).toBe(image.stored.digest);
    expect(await client.find('apps/a/stable')).toMatchObject({ role: 'apps' });
    const target = `os/image/${image.stored.digest.slice('sha256:'.length)}.stable`;
    expect(await folder.target(target)).toEqual(Buffer.from(image.stored.bytes));
    expect(await pull()).toEqual([]);
    const renewal = { add: [], remove: [], threshold: undefined };
    await rotate(tuf.folder, await tuf.state(), 'root', renewal, { now: tuf.now });
    await tuf.publish();
    await push();
    expect(await pull()).toEqual(['2.root.json']);
  });

  it('takes nothing that those who may have not signed', async (ctx) => {
    const { tuf, registry, push, pull, sign, client } = await scene(ctx);
    await push();
    await pull();
    await sign();
    const good = await collectOffline(tuf.folder);
    const forge = async (kind: 'root' | 'targets', file: string, version: number) => {
      const { signed } = JSON.parse(String(good.get(file)));
      const text = JSON.stringify({ signatures: [], signed: { ...signed, version } });
      const metadata = parseMetadata(kind, Buffer.from(text), file);
      for (const signer of [tuf.keys.root[0], newSigner()]) await addSignature(metadata, signer);
      return encodeMetadata(metadata);
    };
    for (const [kind, file, name, version] of [
      ['root', '1.root.json', '2.root.json', 2],
      ['targets', '3.targets.json', '9.targets.json', 9],
      ['targets', '2.apps.json', '9.apps.json', 9],
    ] as const) {
      await putMetadata(
        registry,
        new Map(good).set(name, await forge(kind, file, version)),
        TUF_TAG,
      );
      await expect(pull()).rejects.toMatchObject({ code: 'METADATA_UNSIGNED' });
    }
    expect(await client.find(PATH)).toMatchObject({ version: 3 });
  });

  it('says that there is nothing', async (ctx) => {
    const { pull } = await scene(ctx);
    await expect(pull()).rejects.toMatchObject({ code: 'METADATA_MISSING' });
  });
});
