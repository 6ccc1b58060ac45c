import { writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { gzipSync, constants as zlib, zstdCompressSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createTransport } from '../../../host-client/net/transport.ts';
import { sha256 } from '../../../shared/digest.ts';
import type { StoredManifest } from '../../../shared/oci/content.ts';
import {
  OCI_CONFIG,
  OCI_INDEX,
  OCI_LAYER_GZIP,
  OCI_LAYER_ZSTD,
  OCI_MANIFEST,
} from '../../../shared/oci/media-types.ts';
import { Repository } from '../../../shared/registry/repository.ts';
import {
  fleetSkipReason,
  IMAGE_NAME,
  type MachineState,
  TestMachine,
} from '../../support/fleet.ts';
import { type HostileRegistry, startHostileRegistry } from '../../support/hostile-registry.ts';
import { rawTar } from '../../support/raw-tar.ts';
import { startRegistry, type TestRegistry } from '../../support/registry.ts';
import {
  makeBundle,
  makeKey,
  makeLegacy,
  payloadOf,
  putBundle,
  putLegacy,
  statementOf,
  type TestKey,
} from '../../support/signatures.ts';
import { putBytes, putTinyImage, storedManifest } from '../../support/tiny-image.ts';

const VERSION = 'org.opencontainers.image.version';
const skip = fleetSkipReason();
const [release, second, stranger] = [makeKey(), makeKey(), makeKey()];
let registry: TestRegistry;
let hostile: HostileRegistry;
let store: Repository;
let machine: TestMachine;
let close: () => void;
let before: MachineState;

const usePolicy = (rule: object = {}, key: object = {}) =>
  machine.write('policy', {
    version: 1,
    keys: {
      release: { pem: release.publicKey.pem, ...key },
      second: { pem: second.publicKey.pem },
    },
    rules: [{ repository: IMAGE_NAME, images: { signers: ['release'] }, ...rule }],
  });
const sign = (stored: StoredManifest, key: TestKey = release) =>
  putBundle(store, stored, makeBundle(key, stored.digest));
const publish = async (text: string) =>
  (await putTinyImage(store, [{ 'etc/os': text }], { tag: 'stable' })).stored;

/** An image of one layer as it stands, signed by the publisher: what it holds is the attack. */
async function publishLayer(tar: Uint8Array, packed: Uint8Array, mediaType: string) {
  const rootfs = { type: 'layers', diff_ids: [sha256(tar)] };
  const config = { os: 'linux', architecture: 'amd64', rootfs };
  const stored = storedManifest({
    ...{ schemaVersion: 2, mediaType: OCI_MANIFEST },
    config: await putBytes(store, OCI_CONFIG, JSON.stringify(config)),
    layers: [await putBytes(store, mediaType, packed)],
  });
  await store.putManifest(stored, 'stable');
  await sign(stored);
}

const SETTINGS = {
  waits: { stallSeconds: 1, answerSeconds: 2 },
  limits: { layerBytes: 8 * 1024 * 1024, windowLog: 21 },
};
const isManifest = (url: string | undefined, tag = 'stable') =>
  url === `/v2/os/image/manifests/${tag}`;
/** Answers every request for the tag with other bytes. */
const serveAs = (bytes: string | Uint8Array, mediaType: string) => {
  hostile.tamper = ({ url, method }, response) => {
    if (!isManifest(url) && !isManifest(url, sha256(Buffer.from(bytes)))) return false;
    response.writeHead(200, { 'content-type': mediaType });
    response.end(method === 'HEAD' ? undefined : bytes);
    return true;
  };
};

beforeAll(async () => {
  if (skip !== undefined) return;
  registry = await startRegistry();
  hostile = await startHostileRegistry(registry.url);
  const connections = createTransport();
  close = connections.close;
  const baseUrl = new URL(registry.url);
  store = new Repository({ transport: connections.transport, baseUrl, repository: 'os/image' });
  machine = await TestMachine.create(hostile.url, undefined, {
    config: SETTINGS,
  });
  await usePolicy();
  await sign(await publish('version 1'));
  expect((await machine.snaphost('update')).status).toBe(0);
});
afterAll(async () => {
  if (skip !== undefined) return;
  await machine.remove();
  await hostile.close();
  await registry.stop();
  close();
});
beforeEach(async (ctx) => {
  ctx.skip(skip !== undefined, skip);
  await usePolicy();
  before = await machine.state();
});
afterEach(async () => {
  if (skip !== undefined) return;
  hostile.tamper = undefined;
  expect(await machine.state()).toEqual(before);
});

const attacked = async () => (await machine.snaphost('update')).json;
const refused = (code: string, message: string | RegExp = '') => ({
  error: { code, message: expect.stringMatching(message) },
});

describe('signatures', () => {
  it('an image without one', async () => {
    const { digest } = await publish('unsigned');
    expect(await attacked()).toMatchObject(refused('SIGNATURE_MISSING'));
    const explained = await machine.snaphost('policy', 'test');
    const refusal = { code: 'SIGNATURE_MISSING' };
    expect(explained).toMatchObject({
      status: 0,
      json: { accepted: false, repository: IMAGE_NAME, manifests: [{ digest, refusal }] },
    });
  });

  it('by an unknown key', async () => {
    await sign(await publish('unknown'), stranger);
    expect(await attacked()).toMatchObject(refused('SIGNATURE_INVALID'));
  });

  it.each([
    ['a revoked key', { validUntil: '2020-01-01T00:00:00Z' }, /was valid until/],
    ['a key that is not valid yet', { validFrom: '2999-01-01T00:00:00Z' }, /is valid from/],
  ])('by %s', async (_name, window, message) => {
    await sign(await publish(`by ${_name}`));
    await usePolicy({}, window);
    expect(await attacked()).toMatchObject(refused('POLICY_REFUSED', message));
  });

  it('one signer counted twice', async () => {
    const stored = await publish('twice');
    await sign(stored);
    await putBundle(
      store,
      stored,
      Buffer.concat([makeBundle(release, stored.digest), Buffer.from(' ')]),
    );
    await putLegacy(store, stored.digest, [makeLegacy(release, payloadOf(stored.digest))]);
    await usePolicy({ images: { signers: ['release', 'second'], threshold: 2 } });
    expect(await attacked()).toMatchObject(refused('POLICY_REFUSED', /count: release;/));
  });

  it('of another predicate type, reused', async () => {
    const stored = await publish('predicate');
    const statement = { ...statementOf(stored.digest), predicateType: 'https://spdx.dev/Document' };
    await putBundle(store, stored, makeBundle(release, stored.digest, { statement }));
    expect(await attacked()).toMatchObject(refused('SIGNATURE_INVALID', /predicateType/));
  });

  it('of another image, moved here', async () => {
    const other = await publish('signed before');
    const stored = await publish('moved');
    await putBundle(store, stored, makeBundle(release, other.digest));
    expect(await attacked()).toMatchObject(refused('SIGNATURE_INVALID', /another digest/));
  });

  it('ten thousand referrers, none of them good', async () => {
    const stored = await publish('referrers');
    const bad = await sign(stored, stranger);
    const entry = { mediaType: OCI_MANIFEST, digest: bad, size: 700 };
    const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: Array(10_000).fill(entry) };
    hostile.paths.length = 0;
    hostile.tamper = ({ url }, response) => {
      if (!url?.includes('/referrers/')) return false;
      response.writeHead(200, { 'content-type': OCI_INDEX }).end(JSON.stringify(index));
      return true;
    };
    expect(await attacked()).toMatchObject(refused('SIGNATURE_INVALID'));
    expect(hostile.paths.length).toBeLessThan(1200);
  });
});

describe('what is served', () => {
  it('an old image under the new tag, below the floor', async () => {
    const old = await putTinyImage(store, [{ 'etc/os': 'old' }]);
    const stored = storedManifest({
      ...JSON.parse(Buffer.from(old.stored.bytes).toString()),
      annotations: { [VERSION]: '2026.1' },
    });
    await store.putManifest(stored, 'stable');
    await sign(stored);
    await usePolicy({ oldest: { version: '2026.2' } });
    expect(await attacked()).toMatchObject(refused('POLICY_REFUSED', /^oldest.version is not met/));
  });

  it('an image that the policy denies', async () => {
    const stored = await publish('denied');
    await sign(stored);
    await usePolicy({ deniedDigests: [stored.digest] });
    expect(await attacked()).toMatchObject(refused('POLICY_REFUSED', /^deniedDigests/));
  });

  it('an image as if it were an index', async () => {
    const stored = await publish('two meanings');
    await sign(stored);
    serveAs(stored.bytes, OCI_INDEX);
    expect(await attacked()).toMatchObject(refused('MANIFEST_INVALID', /was served as/));
  });

  it.each([
    ['both an image and an index', (text: string) => text.replace('{', '{"manifests":[],')],
    ['one key twice', (text: string) => text.replace('{', '{"layers":[],')],
    [
      'a weaker digest',
      (text: string) => text.replace(/("layers":.*)sha256:[0-9a-f]{64}/, '$1md5:00'),
    ],
    [
      'no mediaType, and both',
      (text: string) =>
        text.replace('{', '{"manifests":[],').replace(`"mediaType":"${OCI_MANIFEST}",`, ''),
    ],
  ])('%s, signed', async (_name, spoil) => {
    const stored = await publish(_name);
    const bytes = Buffer.from(spoil(Buffer.from(stored.bytes).toString()));
    expect(bytes.equals(stored.bytes)).toBe(false);
    await sign({ ...stored, bytes, digest: sha256(bytes) });
    serveAs(bytes, OCI_MANIFEST);
    expect(await attacked()).toMatchObject(refused('MANIFEST_INVALID'));
  });

  it('an index in an index', async () => {
    const entry = { mediaType: OCI_INDEX, platform: { os: 'linux', architecture: 'amd64' } };
    let inner = storedManifest(
      { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] },
      OCI_INDEX,
    );
    for (let depth = 0; depth < 3; depth += 1) {
      await store.putManifest(inner, 'stable');
      const { digest, bytes } = inner;
      const manifests = [{ ...entry, digest, size: bytes.length, mediaType: OCI_MANIFEST }];
      inner = storedManifest({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }, OCI_INDEX);
    }
    hostile.tamper = undefined;
    serveAs(inner.bytes, OCI_INDEX);
    await sign(inner);
    expect(await attacked()).toMatchObject(refused('MANIFEST_INVALID', /names another index/));
  });

  it('annotations of megabytes', async () => {
    const annotations = { a: 'x'.repeat(5 * 1024 * 1024) };
    serveAs(
      JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, annotations }),
      OCI_MANIFEST,
    );
    expect(await attacked()).toMatchObject(refused('LIMIT_EXCEEDED'));
  });
});

describe('how it is served', () => {
  const endless = (response: ServerResponse) => {
    const chunk = Buffer.alloc(64 * 1024, 0x20);
    const more = () => {
      while (response.write(chunk));
    };
    response.on('drain', more);
    more();
  };

  it('a manifest without end', async () => {
    hostile.tamper = ({ url, method }, response) => {
      if (!isManifest(url)) return false;
      response.writeHead(200, { 'content-type': OCI_MANIFEST });
      if (method === 'HEAD') response.end();
      else endless(response);
      return true;
    };
    expect(await attacked()).toMatchObject(refused('LIMIT_EXCEEDED'));
  });

  it('a body that stalls', async () => {
    hostile.tamper = ({ url, method }, response) => {
      if (!isManifest(url)) return false;
      response.writeHead(200, { 'content-type': OCI_MANIFEST });
      if (method === 'HEAD') response.end();
      else response.write('{');
      return true;
    };
    expect(await attacked()).toMatchObject(refused('UPSTREAM_TIMEOUT'));
  });

  it('a body that comes byte by byte', async () => {
    hostile.tamper = ({ url, method }, response) => {
      if (!isManifest(url)) return false;
      response.writeHead(200, { 'content-type': OCI_MANIFEST });
      const timer = method === 'HEAD' ? undefined : setInterval(() => response.write(' '), 100);
      response.on('close', () => clearInterval(timer));
      if (method === 'HEAD') response.end();
      return true;
    };
    expect(await attacked()).toMatchObject(refused('UPSTREAM_TIMEOUT'));
  });

  it('redirects without end', async () => {
    hostile.paths.length = 0;
    hostile.tamper = ({ url }, response) => {
      response.writeHead(307, { location: url }).end();
      return true;
    };
    expect(await attacked()).toMatchObject(refused('UPSTREAM_FAILED', /redirect/));
    expect(hostile.paths.length).toBeLessThan(20);
  });

  it('redirects that would carry credentials elsewhere', async () => {
    const elsewhere = await startHostileRegistry(registry.url);
    const seen: (string | undefined)[] = [];
    elsewhere.tamper = ({ headers }, response) => {
      seen.push(headers.authorization);
      response.writeHead(403).end();
      return true;
    };
    const asked: (string | undefined)[] = [];
    hostile.tamper = ({ url, headers }, response) => {
      asked.push(headers.authorization);
      if (headers.authorization === undefined) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end();
      } else response.writeHead(307, { location: `${elsewhere.url}${url}` }).end();
      return true;
    };
    const auth = Buffer.from('machine:secret').toString('base64');
    const authFile = join(machine.root, 'auth.json');
    const { host } = new URL(hostile.url);
    await writeFile(authFile, JSON.stringify({ auths: { [host]: { auth } } }));
    await machine.configure(hostile.url, { ...SETTINGS, authFile });
    expect((await attacked()).error.code).toMatch(/^(DENIED|UPSTREAM_FAILED)$/);
    await machine.configure(hostile.url, SETTINGS);
    await elsewhere.close();
    // It did answer the registry that it has credentials for, and it was led elsewhere.
    expect(asked).toContain(`Basic ${auth}`);
    expect(new Set(seen)).toEqual(new Set([undefined]));
  });

  it('a layer that goes on after its end', async () => {
    const { stored, layers } = await putTinyImage(store, [{ a: 'long' }], { tag: 'stable' });
    await sign(stored);
    hostile.tamper = ({ url }, response) => {
      if (!url?.endsWith(`/blobs/${layers[0]?.digest}`)) return false;
      response.writeHead(200, { 'content-type': 'application/octet-stream' });
      endless(response);
      return true;
    };
    expect((await attacked()).error.code).toMatch(/^(SIZE|DIGEST)_INVALID$/);
  });
});

const linkByPax = { name: 'link', type: '1', link: 'a', pax: { linkpath: '../../etc/shadow' } };

describe('what a layer holds, although the publisher signed it', () => {
  it('a bomb of gzip', async () => {
    const tar = Buffer.alloc(64 * 1024 * 1024);
    await publishLayer(tar, gzipSync(tar, { level: 9 }), OCI_LAYER_GZIP);
    expect((await attacked()).error.code).toMatch(/^(LIMIT_EXCEEDED|TAR_INVALID)$/);
  });

  it('a bomb of zstd', async () => {
    const tar = Buffer.alloc(64 * 1024 * 1024);
    await publishLayer(tar, zstdCompressSync(tar), OCI_LAYER_ZSTD);
    expect((await attacked()).error.code).toMatch(/^(LIMIT_EXCEEDED|TAR_INVALID)$/);
  });

  it('a window of zstd over the limit', async () => {
    const tar = rawTar([{ name: 'a', content: Buffer.alloc(6 * 1024 * 1024, 1) }]);
    const params = { [zlib.ZSTD_c_windowLog]: 23, [zlib.ZSTD_c_contentSizeFlag]: 0 };
    await publishLayer(tar, zstdCompressSync(tar, { params }), OCI_LAYER_ZSTD);
    expect(await attacked()).toMatchObject(refused('LIMIT_EXCEEDED'));
  });

  it.each([
    ['a way up', { name: '../escape', content: 'x' }],
    ['a way up in the middle', { name: 'a/../../escape', content: 'x' }],
    ['a hard link out', { name: 'link', type: '1', link: '../../etc/shadow' }],
    ['an absolute path', { name: '/escape', content: 'x' }],
    ['an absolute hard link', { name: 'link', type: '1', link: '/etc/shadow' }],
    ['a way up in a pax header', { name: 'b', content: 'x', pax: { path: 'a/../../escape' } }],
    ['a way up of a hard link in a pax header', linkByPax],
    ['a device behind a way up', { name: '../null', type: '3', major: 1, minor: 3 }],
    ['a whiteout of what is above', { name: 'usr/.wh...', content: '' }],
    ['a whiteout of the folder itself', { name: 'usr/.wh..', content: '' }],
    ['a whiteout behind a way up', { name: '../.wh.etc', content: '' }],
    ['a name that is longer than any', { name: 'x', content: '', pax: { path: 'n'.repeat(300) } }],
  ])('%s', async (_name, entry) => {
    const tar = rawTar([{ name: 'a', content: 'x' }, entry]);
    await publishLayer(tar, gzipSync(tar), OCI_LAYER_GZIP);
    expect(await attacked()).toMatchObject(refused('TAR_INVALID'));
  });

  it('a file behind a symbolic link that leads out', async () => {
    const tar = rawTar([
      { name: 'out', type: '2', link: '/etc' },
      { name: 'out/escape', content: 'x' },
    ]);
    await publishLayer(tar, gzipSync(tar), OCI_LAYER_GZIP);
    expect(await attacked()).toMatchObject(refused('TAR_INVALID'));
  });

  it('another layer than the config names', async () => {
    const tar = rawTar([{ name: 'a', content: 'x' }]);
    const other = rawTar([{ name: 'a', content: 'y' }]);
    await publishLayer(tar, gzipSync(other), OCI_LAYER_GZIP);
    expect(await attacked()).toMatchObject(refused('DIFF_ID_MISMATCH'));
  });
});
