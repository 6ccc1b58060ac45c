import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../gateway/cli/config.ts';
import { type RunningGateway, startGateway } from '../../gateway/cli/gateway.ts';
import { createTransport } from '../../gateway/upstream/transport.ts';
import { type Digest, digestHex } from '../../shared/digest.ts';
import type { LogFields } from '../../shared/log.ts';
import { MANIFEST_ACCEPT } from '../../shared/oci/media-types.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { peerMissing, peerPath } from '../support/peers.ts';
import { hasRegistry, startRegistry, type TestRegistry } from '../support/registry.ts';
import { runProgramFile } from '../support/run-program.ts';
import {
  makeBundle,
  makeKey,
  makeLegacy,
  payloadOf,
  putBundle,
  putLegacy,
} from '../support/signatures.ts';
import { putTinyDelta } from '../support/tiny-delta.ts';
import { putTinyImage, putTinyIndex, storedManifest } from '../support/tiny-image.ts';

const key = makeKey();
const skip = hasRegistry() ? undefined : 'docker-registry is not installed';
let registry: TestRegistry;
let connections: ReturnType<typeof createTransport>;
let folder: string;
let serial = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'snapgate-gate-'));
  connections = createTransport();
  if (skip === undefined) registry = await startRegistry();
});
afterAll(async () => {
  await connections.close();
  await registry?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A gateway with a gate of its own, and the registry's repository behind it. */
async function open(gate: object, rule: object = {}) {
  serial += 1;
  const name = `os/edge${serial}`;
  const data = join(folder, `data${serial}`);
  const policy = join(folder, `policy${serial}.json`);
  const rules = [{ repository: 'gate.test/os/*', images: { signers: ['release'] }, ...rule }];
  const keys = { release: { pem: key.publicKey.pem } };
  await writeFile(policy, JSON.stringify({ version: 1, keys, rules }));
  const config = parseConfig(
    JSON.stringify({
      ...{ listen: { port: 0 }, data, stopTimeoutSeconds: 0, publicUrl: 'http://gate.test' },
      ...{ upstream: { url: registry.url }, gate: { policy, ...gate } },
    }),
    join(folder, 'c.yaml'),
  );
  const lines: object[] = [];
  const log = (_level: string, message: string, fields: LogFields = {}) =>
    void lines.push({ ...fields, message });
  const start = () => startGateway(config, log);
  const baseUrl = new URL(registry.url);
  const store = new Repository({ transport: connections.transport, baseUrl, repository: name });
  return { name, store, lines, start, gateway: await start() };
}

const ask = (gateway: RunningGateway, name: string, path: string, init: RequestInit = {}) =>
  fetch(`${gateway.url}/v2/${name}/${path}`, {
    headers: { accept: MANIFEST_ACCEPT.join(', ') },
    ...init,
  });
const status = async (answer: Promise<Response>) => {
  const { status, body } = await answer;
  await body?.cancel();
  return status;
};
const sign = (store: Repository, stored: Parameters<typeof putBundle>[1]) =>
  putBundle(store, stored, makeBundle(key, stored.digest));

describe('a gate that enforces', () => {
  it('serves what the policy accepts, and its blobs, by tag and digest', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const { name, store, gateway, lines, start } = await open({ mode: 'enforce' });
    const get = (path: string, init?: RequestInit) => status(ask(gateway, name, path, init));
    const image = await putTinyImage(store, [{ a: '1' }], { tag: 'v1' });
    const { digest } = image.stored;
    const blob = `blobs/${image.layers[0]?.digest}`;
    const refused = await ask(gateway, name, 'manifests/v1');
    expect(refused.status).toBe(403);
    expect(await refused.json()).toMatchObject({
      errors: [{ code: 'DENIED', message: expect.stringContaining('SIGNATURE_MISSING') }],
    });
    for (const method of ['GET', 'HEAD']) {
      expect(await get(`manifests/${digest}`, { method })).toBe(403);
    }
    const range = { headers: { accept: MANIFEST_ACCEPT.join(', '), range: 'bytes=0-99' } };
    expect(await get('manifests/v1', range)).toBe(403);
    expect(await get(blob)).toBe(403);
    expect(await get(blob, { method: 'HEAD' })).toBe(200);
    await gateway.close();

    // A refusal is remembered for a while by a gateway, so another one is asked.
    await sign(store, image.stored);
    const again = await start();
    const served = await ask(again, name, 'manifests/v1');
    expect(served.status).toBe(200);
    expect(Buffer.from(await served.arrayBuffer())).toEqual(image.stored.bytes);
    expect(await status(ask(again, name, blob))).toBe(200);
    await again.close();
    // What was accepted is known after a restart as well.
    const third = await start();
    expect(await status(ask(third, name, blob))).toBe(200);
    expect(await status(ask(third, name, `manifests/${digest}`))).toBe(200);
    const metrics = await (await fetch(`${third.url}/metrics`)).text();
    expect(metrics).toMatch(
      /gate_decisions_total\{mode="enforce",outcome="accepted",cached="true"\} 1/,
    );
    await third.close();
    expect(lines).toContainEqual(
      expect.objectContaining({ message: 'refused', code: 'SIGNATURE_MISSING', digest }),
    );
  });

  it('always serves signatures and referrers, and judges deltas by their own rule', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const { name, store, gateway } = await open({}, { deltas: false });
    const get = (path: string) => status(ask(gateway, name, path));
    const from = await putTinyImage(store, [{ a: '1' }]);
    const to = await putTinyImage(store, [{ a: '2' }], { tag: 'v2' });
    const delta = await putTinyDelta(store, from, to);
    await sign(store, delta);
    const bundle = await sign(store, to.stored);
    await putLegacy(store, to.stored.digest, [makeLegacy(key, payloadOf(to.stored.digest))]);
    const tag = `sha256-${digestHex(to.stored.digest)}`;
    for (const path of [`manifests/${bundle}`, `manifests/${tag}.sig`, `manifests/${tag}`]) {
      expect(await get(path), path).toBe(200);
    }
    expect(await get(`referrers/${to.stored.digest}`)).toBe(200);
    const layer = JSON.parse((await store.getManifest(bundle)).bytes.toString()).layers[0];
    expect(await get(`blobs/${layer.digest}`)).toBe(200);
    expect(await get('manifests/v2')).toBe(200);
    expect(await get(`manifests/${delta.digest}`)).toBe(403);
    await gateway.close();
  });

  it('serves the images of an index that was accepted, and no image dressed up as a referrer', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const { name, store, gateway } = await open({});
    const get = (path: string) => status(ask(gateway, name, path));
    const image = await putTinyImage(store, [{ a: '3' }]);
    const index = await putTinyIndex(store, { amd64: image }, 'multi');
    await sign(store, index);
    expect(await get('manifests/multi')).toBe(200);
    expect(await get(`manifests/${image.stored.digest}`)).toBe(200);

    const other = await putTinyImage(store, [{ a: '4' }]);
    const subject = { mediaType: index.mediaType, digest: index.digest, size: index.bytes.length };
    const dressed = storedManifest({
      ...JSON.parse(Buffer.from(other.stored.bytes).toString()),
      ...{ subject, artifactType: 'application/vnd.example.sbom' },
    });
    await store.putManifest(dressed, `sha256-${'0'.repeat(64)}.sig`);
    expect(await get(`manifests/${dressed.digest}`)).toBe(403);
    expect(await get(`manifests/sha256-${'0'.repeat(64)}.sig`)).toBe(403);
    await gateway.close();
  });

  it('stops serving what the policy denies in the next version of its file', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const first = await open({});
    const image = await putTinyImage(first.store, [{ a: '5' }], { tag: 'v1' });
    await sign(first.store, image.stored);
    expect(await status(ask(first.gateway, first.name, 'manifests/v1'))).toBe(200);
    await first.gateway.close();
    const rules = (denied: Digest[]) => [
      { repository: '*', images: { signers: ['release'] }, deniedDigests: denied },
    ];
    const keys = { release: { pem: key.publicKey.pem } };
    const text = JSON.stringify({ version: 1, keys, rules: rules([image.stored.digest]) });
    await writeFile(join(folder, `policy${serial}.json`), text);
    const second = await first.start();
    expect(await status(ask(second, first.name, 'manifests/v1'))).toBe(403);
    expect(await status(ask(second, first.name, `blobs/${image.config}`))).toBe(403);
    await second.close();
  });

  it('lets skopeo copy what is accepted only, and refuses pushes where asked to', async (ctx) => {
    const reason = skip ?? peerMissing('skopeo-sid');
    ctx.skip(reason !== undefined, reason);
    const { name, store, gateway } = await open({ pushes: true });
    const host = new URL(gateway.url).host;
    const copy = (from: string, to: string) =>
      runProgramFile(peerPath('skopeo-sid'), [
        ...['--insecure-policy', 'copy', '--src-tls-verify=false', '--dest-tls-verify=false'],
        ...[from, to],
      ]);
    const signed = await putTinyImage(store, [{ a: '6' }], { tag: 'signed' });
    await sign(store, signed.stored);
    await putTinyImage(store, [{ a: '7' }], { tag: 'unsigned' });
    const remote = (tag: string) => `docker://${host}/${name}:${tag}`;
    expect(await copy(remote('signed'), `dir:${folder}/signed`)).toMatchObject({ status: 0 });
    expect((await copy(remote('unsigned'), `dir:${folder}/no`)).stderr).toMatch(/denied|403/i);
    const direct = `docker://${registry.host}/${name}:unsigned`;
    const pull = await copy(direct, `dir:${folder}/unsigned`);
    expect(pull.status, pull.stderr).toBe(0);
    expect((await copy(`dir:${folder}/unsigned`, remote('new'))).stderr).toMatch(/denied|403/i);
    const push = await copy(`dir:${folder}/signed`, remote('again'));
    expect(push.status, push.stderr).toBe(0);
    expect(await store.listTags()).not.toContain('new');
    await gateway.close();
  });
});

describe('a gate that audits', () => {
  it('serves everything, counts and logs what it would refuse', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const { name, store, gateway, lines } = await open({ mode: 'audit' });
    const image = await putTinyImage(store, [{ a: '8' }], { tag: 'v1' });
    expect(await status(ask(gateway, name, 'manifests/v1'))).toBe(200);
    expect(await status(ask(gateway, name, `blobs/${image.config}`))).toBe(200);
    const metrics = await (await fetch(`${gateway.url}/metrics`)).text();
    expect(metrics).toMatch(/mode="audit",outcome="SIGNATURE_MISSING",cached="false"\} 1/);
    expect(metrics).toMatch(/mode="audit",outcome="POLICY_REFUSED",cached="true"\} 1/);
    expect(lines.filter((line) => 'message' in line && line.message === 'refused')).toHaveLength(2);
    await gateway.close();
  });
});
