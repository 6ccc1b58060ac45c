import { randomBytes } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { packTarDiff, type TarDiffWriter } from '../../../shared/delta/tar-diff-writer.ts';
import type { StoredManifest } from '../../../shared/oci/content.ts';
import { TAR_DIFF } from '../../../shared/oci/media-types.ts';
import type { Repository } from '../../../shared/registry/repository.ts';
import { useAttackedMachine } from '../../support/attacked-machine.ts';
import { IMAGE_NAME, type MachineState, type TestMachine } from '../../support/fleet.ts';
import type { HostileRegistry } from '../../support/hostile-registry.ts';
import {
  makeBundle,
  makeKey,
  makeLegacy,
  payloadOf,
  putBundle,
  putLegacy,
} from '../../support/signatures.ts';
import { putTinyDelta, tarDiffCopying } from '../../support/tiny-delta.ts';
import { collectBytes, putTinyImage, type TinyImage } from '../../support/tiny-image.ts';

/**
 * Deltas by somebody who has the key that may sign deltas, or who changes what the machine holds.
 * None of them may change what results: either the image that the publisher signed, fetched whole,
 * or nothing.
 */
const [release, deltas, stranger] = [makeKey(), makeKey(), makeKey()];
const LIBRARY = randomBytes(200_000);
const PATH = 'usr/lib/lib.so';
const LIMITS = { layerBytes: 8 * 1024 * 1024, windowLog: 21 };
const attacked = useAttackedMachine({ limits: LIMITS });
let hostile: HostileRegistry;
let store: Repository;
let machine: TestMachine;
let held: TinyImage;
let target: TinyImage;
let before: Omit<MachineState, 'downloads'>;
let serial = 0;

/** What was fetched stays for the next update, which does not trust it either. */
async function stateOf(): Promise<typeof before> {
  const { downloads: _, ...state } = await machine.state();
  return state;
}

/** An image, signed in the legacy form, that holds the same library and something new. */
async function publish(text: string, tag = 'stable'): Promise<TinyImage> {
  const image = await putTinyImage(store, [{ 'etc/os': text, [PATH]: LIBRARY }], { tag });
  const { digest } = image.stored;
  await putLegacy(store, digest, [makeLegacy(release, payloadOf(digest))]);
  return image;
}
const right = ({ tar }: { tar: Uint8Array }) => tarDiffCopying(tar, PATH, LIBRARY);
/** Publishes a delta from the held image, and has it found. */
async function offer(
  to: TinyImage,
  layerDelta: (layer: TinyImage['layers'][number]) => Promise<Uint8Array>,
  key = deltas,
): Promise<StoredManifest> {
  const delta = await putTinyDelta(store, held, to, layerDelta);
  await putBundle(store, delta, makeBundle(key, delta.digest));
  return delta;
}
/** Plays a gateway that says that this delta is the way to an image. */
function advise(to: TinyImage, delta: StoredManifest) {
  hostile.tamper = ({ url }, response) => {
    if (!url?.endsWith('/_snapgate/plan')) return false;
    const artifact = { digest: delta.digest, size: delta.bytes.length };
    const way = { method: 'delta', state: 'ready', sourceConfig: held.config, bytes: 1000 };
    const fullBytes = to.layers.reduce((sum, { size }) => sum + size, 0);
    const about = { manifest: to.stored.digest, config: to.config, platform: 'linux/amd64' };
    const ways = [{ ...way, format: TAR_DIFF, artifact }];
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ target: { ...about, fullBytes }, ways }));
    return true;
  };
}
/** Lets no layer through whole, so that a delta is the only way. */
function withholdLayers({ layers }: TinyImage) {
  const tamper = hostile.tamper;
  hostile.tamper = (request, response) => {
    if (!layers.some(({ digest }) => request.url?.endsWith(`/blobs/${digest}`))) {
      return tamper?.(request, response);
    }
    response.writeHead(403).end();
    return true;
  };
}

beforeAll(async () => {
  if (attacked.skip !== undefined) return;
  ({ machine, hostile, store } = attacked);
  const policy = {
    version: 1,
    keys: { release: { pem: release.publicKey.pem }, deltas: { pem: deltas.publicKey.pem } },
    rules: [
      {
        ...{ repository: IMAGE_NAME, images: { signers: ['release'] } },
        deltas: { signers: ['deltas'] },
      },
    ],
  };
  await machine.write('policy', policy);
  held = await publish('version 1');
  expect((await machine.snaphost('update')).status).toBe(0);
});
beforeEach(async () => {
  hostile.tamper = undefined;
  serial += 1;
  target = await publish(`target ${serial}`);
  before = await stateOf();
});

/**
 * When there is nothing but the delta the update must fail and change nothing; else the image comes
 * whole, as the publisher signed it, and it is said why.
 */
async function expectWhole(reason: RegExp) {
  const tamper = hostile.tamper;
  withholdLayers(target);
  const refused = await machine.snaphost('update');
  expect(refused.json.error, JSON.stringify(refused.json)).toBeDefined();
  expect(await stateOf()).toEqual(before);
  hostile.tamper = tamper;
  const { json } = await machine.snaphost('update');
  expect(json).toMatchObject({
    to: target.stored.digest,
    fallbackReason: expect.stringMatching(reason),
  });
  expect((await libraryNow()).equals(LIBRARY)).toBe(true);
  held = target;
}

/** The library of the image that runs next. */
async function libraryNow(): Promise<Buffer> {
  return readFile(join(machine.root, machine.bootsNext(), PATH));
}

/** A layer delta of any operations. */
const operations = (fill: (writer: TarDiffWriter) => Promise<void>, windowLog = 20) =>
  collectBytes(packTarDiff(fill, { level: 3, windowLog }));

describe('a delta', () => {
  it('is used when nothing is wrong with it', async () => {
    advise(target, await offer(target, right));
    withholdLayers(target);
    const { json } = await machine.snaphost('update');
    expect(json).toMatchObject({ method: 'delta', to: target.stored.digest });
    expect((await libraryNow()).equals(LIBRARY)).toBe(true);
    held = target;
  });

  it('by a key that may not sign deltas', async () => {
    advise(target, await offer(target, right, stranger));
    await expectWhole(/SIGNATURE_INVALID/);
  });

  it('for another target, offered for this one', async () => {
    const other = await publish('another target', 'other');
    advise(target, await offer(other, right));
    await expectWhole(/DELTA_INVALID/);
  });

  it('mixed from two versions: the target of the one, the layers of the other', async () => {
    const other = await publish('mixed in', 'other');
    const swap = await right(other.layers[0] as TinyImage['layers'][number]);
    advise(target, await offer(target, async () => swap));
    await expectWhole(/DIFF_ID_MISMATCH/);
  });

  it('with the signature of another delta', async () => {
    const signed = await offer(target, right);
    const other = await putTinyDelta(store, held, target, async (layer) =>
      operations((writer) => writer.data(layer.tar)),
    );
    await putBundle(store, other, makeBundle(deltas, signed.digest));
    advise(target, other);
    await expectWhole(/SIGNATURE_INVALID/);
  });

  it('rebuilt from a file that was changed on the machine', async () => {
    advise(target, await offer(target, right));
    const folder = join(machine.root, 'var/lib/containers/storage/btrfs/subvolumes');
    const changed: string[] = [];
    for (const name of await readdir(folder)) {
      const file = join(folder, name, PATH);
      const bytes = await readFile(file).catch(() => undefined);
      if (bytes === undefined) continue;
      await writeFile(file, Buffer.from(bytes).fill('x', 1000, 2000));
      changed.push(file);
    }
    expect(changed).not.toEqual([]);
    await expectWhole(/DIFF_ID_MISMATCH/);
  });

  it.each([
    ['a way up', 'usr/../../../../../../etc/shadow', /DELTA_INVALID/],
    ['an absolute path', '/etc/shadow', /DELTA_INVALID/],
    ['a path that is longer than any', `${'a/'.repeat(2048)}x`, /LIMIT_EXCEEDED/],
    ['a folder', 'usr/lib', /DELTA_SOURCE_MISMATCH/],
  ])('that copies from %s', async (_name, path, reason) => {
    const bad = await operations(async (writer) => {
      await writer.open(path);
      await writer.copy(0, 100);
    });
    advise(target, await offer(target, async () => bad));
    await expectWhole(reason);
  });

  it('that unpacks to more than a layer may have', async () => {
    const bomb = await operations((writer) => writer.data(Buffer.alloc(64 * 1024 * 1024)));
    expect(bomb.length).toBeLessThan(100_000);
    advise(target, await offer(target, async () => bomb));
    await expectWhole(/LIMIT_EXCEEDED/);
  });

  it('that asks for a window over the limit', async () => {
    const zeros = Buffer.alloc(3 * 1024 * 1024);
    const wide = await operations((writer) => writer.data(zeros), 23);
    advise(target, await offer(target, async () => wide));
    await expectWhole(/LIMIT_EXCEEDED/);
  });
});
