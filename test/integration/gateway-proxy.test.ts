import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LayoutStore } from '../../gateway/layout/layout-store.ts';
import { createTransport } from '../../gateway/upstream/transport.ts';
import { sha256 } from '../../shared/digest.ts';
import { OCI_MANIFEST } from '../../shared/oci/media-types.ts';
import { basicHeader } from '../../shared/registry/authenticator.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { startGatewayProcess, type TestGateway } from '../support/gateway.ts';
import { hasProgram } from '../support/has-program.ts';
import {
  hasRegistry,
  REGISTRY_USER,
  startRegistry,
  type TestRegistry,
} from '../support/registry.ts';
import { collectBytes, putTinyImage, putTinyIndex, type TinyImage } from '../support/tiny-image.ts';

const run = promisify(execFile);
const NO_REGISTRY = 'docker-registry is not installed';

let dir: string;
let registry: TestRegistry;
let gateway: TestGateway;

beforeAll(async () => {
  if (!hasRegistry()) return;
  dir = await mkdtemp(join(tmpdir(), 'snapgate-proxy-test-'));
  registry = await startRegistry();
  gateway = await startGatewayProcess(registry.url);
});

afterAll(async () => {
  if (!hasRegistry()) return;
  expect(await gateway.stop()).toBe(0);
  await registry.stop();
  await rm(dir, { recursive: true, force: true });
});

const ask = (path: string, init: RequestInit = {}) => fetch(gateway.url + path, init);

/** Sends a blob in pieces of `step` bytes and gives the answers on the way. */
async function pushInPieces(content: Buffer, step: number): Promise<Response[]> {
  const answers = [await ask('/v2/os/pieces/blobs/uploads/', { method: 'POST' })];
  const next = () => new URL(answers.at(-1)?.headers.get('location') ?? '', gateway.url);
  for (let at = 0; at < content.length; at += step) {
    const piece = new Uint8Array(content.subarray(at, at + step));
    const range = `${at}-${at + piece.length - 1}`;
    const headers = { 'content-range': range, 'content-type': 'application/octet-stream' };
    answers.push(await fetch(next(), { method: 'PATCH', headers, body: piece }));
  }
  answers.push(await fetch(next()));
  const end = next();
  end.searchParams.set('digest', sha256(content));
  answers.push(await fetch(end, { method: 'PUT' }));
  return answers;
}

describe('through the gateway', () => {
  it.for(['gzip', 'zstd', 'none'] as const)('skopeo copies %s images', async (packing, ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    ctx.skip(!hasProgram('skopeo'), 'skopeo is not installed');
    const layout = await LayoutStore.create(join(dir, packing));
    const layers = [{ 'etc/a': 'a' }, { 'usr/lib/b': randomBytes(2_000_000) }];
    const images = {
      amd64: await putTinyImage(layout, layers, { packing }),
      arm64: await putTinyImage(layout, [{ 'etc/c': 'c' }], { packing, architecture: 'arm64' }),
    };
    const index = await putTinyIndex(layout, images, 'v1');
    const there = `docker://${gateway.host}/os/${packing}:v1`;
    const copy = ['copy', '--all', '--quiet', '--preserve-digests'];
    await run('skopeo', [
      ...[...copy, '--dest-tls-verify=false', `oci:${join(dir, packing)}:v1`, there],
    ]);
    const back = `oci:${join(dir, `${packing}-back`)}:v1`;
    await run('skopeo', [...copy, '--src-tls-verify=false', there, back]);
    const copied = await LayoutStore.open(join(dir, `${packing}-back`));
    expect((await copied.getManifest('v1')).digest).toBe(index.digest);
    for (const image of Object.values(images)) {
      const { bytes } = await copied.getManifest(image.stored.digest);
      expect(Buffer.from(bytes)).toEqual(Buffer.from(image.stored.bytes));
      for (const layer of image.layers) await collectBytes(copied.openBlob(layer));
    }
  });

  it('podman pulls, pushes and pulls again', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    ctx.skip(!hasProgram('podman'), 'podman is not installed');
    ctx.skip(process.getuid?.() !== 0, 'this needs root');
    const image = await pushTiny('os/podman');
    const podman = (...args: string[]) =>
      run('podman', [
        ...[`--root=${join(dir, 'podman')}`, `--runroot=${join(dir, 'podman-run')}`],
        ...['--storage-driver=vfs', ...args],
      ]);
    const first = `${gateway.host}/os/podman:v1`;
    const second = `${gateway.host}/os/again:v1`;
    await podman('pull', '--quiet', '--tls-verify=false', first);
    await podman('push', '--quiet', '--tls-verify=false', first, second);
    await podman('rmi', first);
    await podman('pull', '--quiet', '--tls-verify=false', second);
    const { stdout } = await podman('image', 'inspect', '--format', '{{.Id}}', second);
    expect(`sha256:${stdout.trim()}`).toBe(image.config);
  });

  it('blobs are pushed in pieces', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const content = randomBytes(3_000_000);
    const answers = await pushInPieces(content, 1_000_000);
    expect(answers.map((answer) => answer.status)).toEqual([202, 202, 202, 202, 204, 201]);
    expect(answers[3]?.headers.get('range')).toBe('0-2999999');
    for (const answer of answers) expect(answer.headers.get('location')).toMatch(/^\/v2\/os\/p/);
    const location = answers.at(-1)?.headers.get('location') ?? '';
    const blob = Buffer.from(await (await ask(location)).arrayBuffer());
    expect(blob.equals(content)).toBe(true);
  });

  it('an upload that is given up is gone', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const started = await ask('/v2/os/pieces/blobs/uploads/', { method: 'POST' });
    const location = started.headers.get('location') ?? '';
    expect((await ask(location, { method: 'DELETE' })).status).toBe(204);
    expect((await ask(location)).status).toBe(404);
  });

  it('blobs are pushed at once, and mounted into another repository', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const content = new Uint8Array(randomBytes(1000));
    const digest = sha256(content);
    const started = await ask('/v2/os/one/blobs/uploads/', { method: 'POST' });
    const at = new URL(started.headers.get('location') ?? '', gateway.url);
    at.searchParams.set('digest', digest);
    expect((await fetch(at, { method: 'PUT', body: content })).status).toBe(201);
    const mount = `/v2/os/two/blobs/uploads/?mount=${digest}&from=os/one`;
    const mounted = await ask(mount, { method: 'POST' });
    expect([mounted.status, mounted.headers.get('location')]).toEqual([
      201,
      `/v2/os/two/blobs/${digest}`,
    ]);
    const head = await ask(`/v2/os/two/blobs/${digest}`, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-length')]).toEqual([200, '1000']);
    expect((await ask(`/v2/os/two/blobs/${digest}`, { method: 'DELETE' })).status).toBe(202);
    expect((await ask(`/v2/os/two/blobs/${digest}`)).status).toBe(404);
  });

  it('a pull goes on where it broke off', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const content = randomBytes(5_000_000);
    const done = (await pushInPieces(content, content.length)).at(-1);
    const path = done?.headers.get('location') ?? '';
    for (const range of ['bytes=4000000-', 'bytes=100-199']) {
      const [start = 0, end = content.length - 1] = (range.match(/\d+/g) ?? []).map(Number);
      const answer = await ask(path, { headers: { range } });
      expect(answer.status).toBe(206);
      expect(answer.headers.get('content-range')).toBe(`bytes ${start}-${end}/${content.length}`);
      const got = Buffer.from(await answer.arrayBuffer());
      expect(got.equals(content.subarray(start, end + 1))).toBe(true);
    }
    expect((await ask(path, { headers: { range: 'bytes=5000000-' } })).status).toBe(416);
  });

  it('tags and repositories are listed page by page', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const names = ['a', 'b', 'c', 'd', 'e'];
    for (const tag of names) await pushTiny('os/tags', tag);
    const tags = await pages('/v2/os/tags/tags/list?n=2');
    expect(tags.map((page) => page.tags)).toEqual([['a', 'b'], ['c', 'd'], ['e']]);
    const repositories = await pages('/v2/_catalog?n=1');
    expect(repositories.length).toBeGreaterThan(1);
    expect(repositories.flatMap((page) => page.repositories)).toContain('os/tags');
  });

  it('images are deleted', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const { stored } = await pushTiny('os/deleted');
    const path = `/v2/os/deleted/manifests/${stored.digest}`;
    const headers = { accept: OCI_MANIFEST };
    expect((await ask(path, { method: 'HEAD', headers })).status).toBe(200);
    expect((await ask(path, { method: 'DELETE' })).status).toBe(202);
    expect((await ask(path, { headers })).status).toBe(404);
  });

  it('a stop waits for what is under way', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const content = randomBytes(30_000_000);
    const path = (await pushInPieces(content, content.length)).at(-1)?.headers.get('location');
    const other = await startGatewayProcess(registry.url);
    const answer = await fetch(other.url + path);
    const stopped = other.stop();
    await expect.poll(() => other.log.some((line) => line.message === 'stopping')).toBe(true);
    await expect(fetch(`${other.url}/healthz`)).rejects.toThrow();
    expect(Buffer.from(await answer.arrayBuffer()).equals(content)).toBe(true);
    expect(await stopped).toBe(0);
  });
});

describe('a gateway whose registry', () => {
  it('asks who is there lets those in who may', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const closed = await startRegistry({ auth: 'basic' });
    const guard = await startGatewayProcess(closed.url);
    try {
      const stranger = await fetch(`${guard.url}/v2/`);
      expect(stranger.headers.get('www-authenticate')).toBe('Basic realm="test"');
      const { username, password } = REGISTRY_USER;
      const headers = { authorization: basicHeader(username, password) };
      expect((await fetch(`${guard.url}/v2/`, { headers })).status).toBe(200);
      expect((await fetch(`${guard.url}/readyz`)).status).toBe(200);
    } finally {
      await guard.stop();
      await closed.stop();
    }
  });

  it('is gone is alive but not ready', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const gone = await startRegistry();
    await gone.stop();
    const guard = await startGatewayProcess(gone.url);
    try {
      expect((await fetch(`${guard.url}/healthz`)).status).toBe(200);
      const ready = await fetch(`${guard.url}/readyz`);
      expect(ready.status).toBe(503);
      expect(await ready.json()).toMatchObject({ checks: { catalogue: 'ok' } });
    } finally {
      await guard.stop();
    }
  });
});

type Page = { readonly tags?: string[]; readonly repositories?: string[] };

async function pages(path: string): Promise<Page[]> {
  const found: Page[] = [];
  for (let next: string | undefined = path; next !== undefined; ) {
    const answer: Response = await ask(next);
    found.push((await answer.json()) as Page);
    next = /^<(\/v2\/[^>]*)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1];
  }
  return found;
}

let pushed = 0;

async function pushTiny(repository: string, tag = 'v1'): Promise<TinyImage> {
  const { transport, close } = createTransport();
  const store = new Repository({ transport, baseUrl: new URL(gateway.url), repository });
  pushed += 1;
  const image = await putTinyImage(store, [{ 'etc/name': `${repository} ${pushed}` }], { tag });
  await close();
  return image;
}
