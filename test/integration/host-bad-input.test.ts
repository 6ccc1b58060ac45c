import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { FileLock } from '../../host-client/system/file-lock.ts';
import { DELTA_ANNOTATION } from '../../shared/delta/annotations.ts';
import { digestHex, sha256 } from '../../shared/digest.ts';
import { type Descriptor, parseManifest } from '../../shared/oci/manifest.ts';
import {
  OCI_CONFIG,
  OCI_LAYER_GZIP,
  OCI_LAYER_ZSTD,
  OCI_MANIFEST,
} from '../../shared/oci/media-types.ts';
import {
  type Fleet,
  fleetSkipReason,
  IMAGE_NAME,
  policyFor,
  SNAPHOST,
  startFleet,
  TestMachine,
} from '../support/fleet.ts';
import { rawTar } from '../support/raw-tar.ts';
import { makeKey } from '../support/signatures.ts';
import { spoilSignatures } from '../support/spoil-signatures.ts';
import { startTamperingProxy, type TamperingProxy } from '../support/tampering-proxy.ts';
import {
  putBytes,
  putTinyImage,
  storedManifest,
  type TinyImage,
  tarOf,
} from '../support/tiny-image.ts';

const skipReason = fleetSkipReason();
const content = randomBytes(400_000);
const base = { 'usr/lib/base.so': randomBytes(300_000) };

let fleet: Fleet;
let proxy: TamperingProxy;
let machine: TestMachine;
let good: TinyImage;
let state: { next: string; subvolumes: string[]; images: string };
/** Short waits, so that what never answers is given up soon. */
const waits = { answerSeconds: 2, stallSeconds: 2, storageSeconds: 1 };

beforeAll(async () => {
  if (skipReason !== undefined) return;
  fleet = await startFleet();
  proxy = await startTamperingProxy(fleet.gateway.url);
  machine = await TestMachine.create(proxy.url, fleet.policy, { config: { waits } });
  const library = (bytes: Buffer) => [base, { 'usr/lib/lib.so': bytes }];
  await putTinyImage(fleet.repository, library(content), { tag: 'stable' });
  expect(await machine.snaphost('update')).toMatchObject({ status: 0 });
  state = look();
  const changed = Buffer.from(content).fill('y', 100_000, 100_100);
  good = await putTinyImage(fleet.repository, library(changed), { tag: 'stable' });
});

afterAll(async () => {
  if (skipReason !== undefined) return;
  await machine.remove();
  await proxy.stop();
  await fleet.stop();
});

afterEach(async () => {
  if (skipReason !== undefined) return;
  proxy.handle = undefined;
  await machine.configure(proxy.url, { waits });
  await machine.write('policy', fleet.policy);
  await fleet.repository.putManifest(good.stored, 'stable');
});

/** All that a refusal must not change. */
function look(on: TestMachine = machine) {
  return {
    next: on.bootsNext(),
    subvolumes: on.subvolumes(),
    images: on.podman('images', '--no-trunc', '--format', '{{.ID}} {{.Repository}}:{{.Tag}}'),
  };
}

/** Expects one clear error, a status of its own, and a machine as it was. */
async function expectRefusal(code: string, status: number, ...args: string[]) {
  const answer = await machine.snaphost('update', ...args);
  expect(answer.json).toMatchObject({ error: { code, message: expect.stringMatching(/./) } });
  expect(answer.status).toBe(status);
  expect(answer.stderr).toBe('');
  expect(look()).toEqual(state);
  const last = await machine.snaphost('status');
  expect(last.json.lastAttempt).toMatchObject({ result: 'failed', error: { code } });
  return answer.json.error;
}

const isBlob =
  (digest: string) =>
  (url = '') =>
    url.endsWith(`/blobs/${digest}`);

/** Changes what comes for one blob. */
function changeBlob(digest: string, change: (body: Buffer) => Buffer) {
  const matches = isBlob(digest);
  proxy.handle = ({ request, pass }) =>
    matches(request.url) ? pass((answer) => ({ ...answer, body: change(answer.body) })) : pass();
}

type Layer = Descriptor & { readonly diffId: string };

/** Publishes an image of layers made by hand, whatever they hold and claim. */
async function publish(layers: readonly Layer[]): Promise<void> {
  const rootfs = { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) };
  const json = JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs });
  const config = await putBytes(fleet.repository, OCI_CONFIG, json);
  const manifest = storedManifest({
    ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, config },
    layers: layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
  });
  await fleet.repository.putManifest(manifest, 'stable');
}

async function layerOf(tar: Buffer, packing: 'gzip' | 'zstd' = 'gzip'): Promise<Layer> {
  const [type, bytes] =
    packing === 'gzip' ? [OCI_LAYER_GZIP, gzipSync(tar)] : [OCI_LAYER_ZSTD, zstdCompressSync(tar)];
  return { ...(await putBytes(fleet.repository, type, bytes)), diffId: sha256(tar) };
}

/** Asks the gateway how to come to an image, and so has it signed. */
async function plan({ stored }: TinyImage): Promise<void> {
  const url = `${fleet.gateway.url}/v2/os/image/_snapgate/plan`;
  const body = JSON.stringify({ target: stored.digest, have: [] });
  const answer = await fetch(url, { method: 'POST', body });
  expect(answer.status).toBe(200);
  await answer.body?.cancel();
}

describe('trust', () => {
  it('is refused without a policy', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await rm(join(machine.root, 'etc/snaphost/policy.json'));
    await expectRefusal('POLICY_REFUSED', 3);
    expect(proxy.seen.filter((line) => line.includes('/blobs/'))).not.toContain(
      `GET /v2/os/image/blobs/${good.layers[1]?.digest}`,
    );
  });

  it('is refused by a policy that cannot be read', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await machine.write('policy', { version: 2 });
    await expectRefusal('CONFIG_INVALID', 2);
  });

  it('is refused to an image without a signature', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await putTinyImage(fleet.open('raw/image'), [base, { new: '1' }], { tag: 'stable' });
    await machine.configure(proxy.url, { waits, repository: 'raw/image' });
    await expectRefusal('SIGNATURE_MISSING', 3);
  });

  it('is refused to a key that the policy does not name', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await machine.write('policy', policyFor(makeKey().publicKey.pem));
    const error = await expectRefusal('SIGNATURE_INVALID', 3);
    expect(error.hint).toContain('gateway.test/os/image');
  });

  it('is refused to a signature with a wrong bit', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const image = await putTinyImage(fleet.repository, [base, { spoilt: '1' }], { tag: 'stable' });
    await machine.snaphost('check');
    await spoilSignatures(fleet.repository, image.stored);
    await expectRefusal('SIGNATURE_INVALID', 3);
  });
});

describe('a registry that lies', () => {
  it('swaps a blob', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    changeBlob(good.layers[1]?.digest ?? '', (body) => Buffer.from(body).fill('x', 1000, 1010));
    await expectRefusal('DIGEST_INVALID', 4, '--full');
  });

  it('sends a blob that is too long', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const more = randomBytes(1000);
    changeBlob(good.layers[1]?.digest ?? '', (body) => Buffer.concat([body, more]));
    await expectRefusal('SIZE_INVALID', 4, '--full');
  });

  it('has a blob that is cut off', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const matches = isBlob(good.layers[1]?.digest ?? '');
    proxy.handle = ({ request, response, pass }) => {
      if (!matches(request.url)) return pass();
      if (request.headers.range !== undefined) return response.writeHead(416).end();
      return pass((answer) => ({ ...answer, body: answer.body.subarray(0, 200_000) }));
    };
    await expectRefusal('SIZE_INVALID', 4, '--full');
  });

  it('keeps no part of what it lied about', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const folder = join(machine.root, 'var/lib/snaphost/downloads');
    expect(await readdir(folder)).toEqual([]);
  });

  it('swaps a manifest', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    proxy.handle = ({ request, pass }) => {
      const isTarget = request.method === 'GET' && request.url?.endsWith('/manifests/stable');
      const spoil = (body: Buffer) => Buffer.from(body.toString().replace('"size":', '"size": '));
      return pass((answer) => (isTarget ? { ...answer, body: spoil(answer.body) } : answer));
    };
    await expectRefusal('SIGNATURE_MISSING', 3);
  });

  it.for([
    [401, 'UNAUTHORIZED'],
    [403, 'DENIED'],
    [429, 'TOOMANYREQUESTS'],
    [500, 'UPSTREAM_FAILED'],
  ] as const)('answers %i', async ([status, code], ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    proxy.handle = ({ response }) => response.writeHead(status).end();
    await expectRefusal(code, 5);
  });

  it('never answers', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    proxy.handle = () => undefined;
    await expectRefusal('UPSTREAM_TIMEOUT', 5);
  });

  it('resets every connection', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    proxy.handle = ({ request }) => request.socket.destroy();
    await expectRefusal('UPSTREAM_UNREACHABLE', 5);
  });

  it('loses a blob', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const matches = isBlob(good.layers[1]?.digest ?? '');
    proxy.handle = ({ request, response, pass }) =>
      matches(request.url) ? response.writeHead(404).end() : pass();
    await expectRefusal('BLOB_UNKNOWN', 5, '--full');
  });
});

describe('a signed image', () => {
  it('that says its layer is smaller than it is', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const layer = await layerOf(await tarOf({ a: content }));
    await publish([{ ...layer, size: layer.size - 1000 }]);
    await expectRefusal('SIZE_INVALID', 4, '--full');
  });

  it('that says its layer is larger than it is', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const layer = await layerOf(await tarOf({ a: content }));
    await publish([{ ...layer, size: layer.size + 1000 }]);
    await expectRefusal('SIZE_INVALID', 4, '--full');
  });

  it('whose layer is so large that it cannot fit', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const layer = await layerOf(await tarOf({ a: content }));
    await publish([{ ...layer, size: 1e15 }]);
    await expectRefusal('NO_SPACE', 6, '--full');
  });

  it('whose layer is not the one of its config', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const layer = await layerOf(await tarOf({ a: content }));
    await publish([{ ...layer, diffId: sha256('another') }]);
    await expectRefusal('DIFF_ID_MISMATCH', 4, '--full');
  });

  it.for([
    ['..', [{ name: '../evil', content: 'x' }]],
    ['.. in the middle', [{ name: 'usr/../../evil', content: 'x' }]],
    ['an absolute path', [{ name: '/etc/evil', content: 'x' }]],
    [
      'a symlink as a parent',
      [
        { name: 'link', type: '2', link: '/etc' },
        { name: 'link/evil', content: 'x' },
      ],
    ],
    ['a hard link out of the tree', [{ name: 'link', type: '1', link: '../../etc/passwd' }]],
    ['a hard link to nothing', [{ name: 'link', type: '1', link: 'no/such/file' }]],
  ] as const)('with a layer with %s', async ([, entries], ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await publish([await layerOf(rawTar(entries))]);
    await expectRefusal('TAR_INVALID', 4, '--full');
  });

  it('with a layer that is no tar stream', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await publish([await layerOf(randomBytes(10_000))]);
    await expectRefusal('TAR_INVALID', 4, '--full');
  });

  it.for(['gzip', 'zstd'] as const)('with a %s bomb', async (packing, ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const limits = { layerBytes: 20_000_000 };
    await machine.configure(proxy.url, { waits, limits });
    const tar = await tarOf({ bomb: Buffer.alloc(60_000_000) });
    const layer = await layerOf(tar, packing);
    expect(layer.size).toBeLessThan(100_000);
    await publish([layer]);
    await expectRefusal('LIMIT_EXCEEDED', 4, '--full');
  });
});

describe('a delta', () => {
  /** Takes the update as far as the download, which a bad delta must not keep from coming. */
  async function download() {
    const answer = await machine.snaphost('update', '--download-only');
    expect(answer.status).toBe(0);
    expect(look()).toEqual(state);
    return answer.json;
  }

  /** The layer deltas between the two images. */
  async function deltaBlobs(): Promise<string[]> {
    const layers: Descriptor[] = [];
    for (const { digest } of await fleet.repository.listReferrers(good.stored.digest)) {
      const manifest = parseManifest((await fleet.repository.getManifest(digest)).bytes);
      const content = `${DELTA_ANNOTATION}content`;
      layers.push(...manifest.layers.filter((one) => one.annotations?.[content] === 'image-layer'));
    }
    expect(layers).not.toEqual([]);
    return layers.map((layer) => layer.digest);
  }

  it('is taken when nothing is wrong with it', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    expect(await download()).toMatchObject({ method: 'delta', fallbackReason: null });
  });

  it('with a wrong bit gives way to the whole image', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await rm(join(machine.root, 'var/lib/snaphost/downloads'), { recursive: true });
    const blobs = await deltaBlobs();
    proxy.handle = ({ request, pass }) => {
      const isDelta = blobs.some((digest) => isBlob(digest)(request.url));
      const spoil = (body: Buffer) => Buffer.from(body).fill('x', body.length - 1);
      return pass(isDelta ? (answer) => ({ ...answer, body: spoil(answer.body) }) : undefined);
    };
    const { method, fallbackReason } = await download();
    expect(method).toBe('full');
    expect(fallbackReason).toContain('DIGEST_INVALID');
  });

  it('by a key that may not sign deltas gives way to the whole image', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await machine.write('policy', {
      version: 1,
      keys: { gateway: { pem: fleet.key.publicPem }, other: { pem: makeKey().publicKey.pem } },
      rules: [
        {
          ...{ repository: IMAGE_NAME, images: { signers: ['gateway'] } },
          deltas: { signers: ['other'] },
        },
      ],
    });
    const { method, fallbackReason } = await download();
    expect(method).toBe('full');
    expect(fallbackReason).toContain('SIGNATURE_INVALID');
  });

  it('of a gateway that plans nonsense gives way to the whole image', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    proxy.handle = ({ request, pass }) =>
      pass(
        request.url?.endsWith('/_snapgate/plan')
          ? (answer) => ({ ...answer, body: Buffer.from('{"ways":"none"}') })
          : undefined,
      );
    const { method, fallbackReason } = await download();
    expect(method).toBe('full');
    expect(fallbackReason).toContain('malformed');
  });
});

describe('a tag', () => {
  it('that moves between two steps does not mix two images', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const other = await putTinyImage(fleet.repository, [base, { moved: content }], {
      tag: 'other',
    });
    await plan(other);
    const moves = [good, other, good];
    proxy.handle = async ({ pass }) => {
      // What the tag is when it is asked for its digest, then for its manifest, and from then on.
      const next = moves.shift();
      if (next !== undefined) await fleet.repository.putManifest(next.stored, 'stable');
      await pass();
    };
    const { json } = await machine.snaphost('update', '--download-only', '--full');
    expect(json).toMatchObject({ to: other.stored.digest, method: 'full' });
    const folder = join(machine.root, 'var/lib/snaphost/downloads');
    const layer = other.layers[1] as Descriptor;
    expect(await readdir(folder)).toEqual([digestHex(layer.digest)]);
    expect(look()).toEqual(state);
  });
});

describe('a machine', () => {
  it('whose Podman is busy', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const path = join(machine.root, 'var/lib/containers/storage/btrfs-layers/layers.lock');
    const busy = () => new Error('locked already') as never;
    const lock = await FileLock.acquire(path, { timeoutMs: 0, busy });
    const answer = await machine.snaphost('update', '--full');
    lock[Symbol.dispose]();
    expect(answer).toMatchObject({ status: 7, json: { error: { code: 'STORAGE_BUSY' } } });
    expect(look()).toEqual(state);
  });

  it('with a disk that is full', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    // Zeros pack so well that only writing them shows how large they are.
    const layer = await layerOf(await tarOf({ zeros: Buffer.alloc(300_000_000) }));
    await publish([layer]);
    const plain = { storage: { compress: 'none' } };
    const small = await TestMachine.create(proxy.url, fleet.policy, {
      ...{ sizeMiB: 160, config: plain },
    });
    ctx.onTestFinished(() => small.remove());
    await mkdir(join(small.root, 'var/lib/snaphost'), { recursive: true });
    const answer = await small.snaphost('update');
    expect(answer).toMatchObject({ status: 6, json: { error: { code: 'NO_SPACE' } } });
    expect(small.subvolumes()).toEqual([]);
    expect(small.podman('images', '--quiet')).toBe('');
  });

  it('that runs two updates at once', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await machine.configure(proxy.url);
    const stalled = Promise.withResolvers<() => void>();
    proxy.handle = ({ pass }) => {
      proxy.handle = undefined;
      stalled.resolve(() => void pass());
    };
    const first = machine.snaphost('update', '--download-only', '--full');
    const release = await stalled.promise;
    const second = await machine.snaphost('update');
    expect(second).toMatchObject({ status: 7, json: { error: { code: 'ALREADY_RUNNING' } } });
    release();
    expect(await first).toMatchObject({ status: 0, json: { method: 'full' } });
    expect(look()).toEqual(state);
  });

  it('that is killed in the middle of a download goes on at the last byte', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const { digest } = good.layers[1] as Descriptor;
    const folder = join(machine.root, 'var/lib/snaphost/downloads');
    await rm(folder, { recursive: true, force: true });
    const half = Promise.withResolvers<void>();
    proxy.handle = ({ request, response, pass }) => {
      if (!isBlob(digest)(request.url)) return pass();
      return pass((answer) => {
        response.writeHead(200, { 'content-length': String(answer.body.length) });
        response.write(answer.body.subarray(0, 200_000), () => half.resolve());
        return undefined;
      });
    };
    const argv = [SNAPHOST, 'update', '--full', '--root', machine.root];
    const child = spawn(process.execPath, argv, { stdio: 'ignore' });
    await half.promise;
    const arrived = () => stat(join(folder, `${digestHex(digest)}.part`)).then(({ size }) => size);
    while ((await arrived().catch(() => 0)) === 0) await sleep(20);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(look()).toEqual(state);
    const ranges: (string | undefined)[] = [];
    proxy.handle = ({ request, pass }) => {
      if (isBlob(digest)(request.url)) ranges.push(request.headers.range);
      return pass();
    };
    const { json } = await machine.snaphost('update', '--full');
    expect(json).toMatchObject({ method: 'full', to: good.stored.digest });
    expect(ranges).toEqual([expect.stringMatching(/^bytes=[1-9]\d*-$/)]);
  });
});
