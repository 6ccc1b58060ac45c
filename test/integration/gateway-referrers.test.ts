import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTransport } from '../../gateway/upstream/transport.ts';
import type { Digest } from '../../shared/digest.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import type { Index } from '../../shared/oci/manifest.ts';
import { OCI_EMPTY, OCI_INDEX, OCI_MANIFEST } from '../../shared/oci/media-types.ts';
import { fallbackTag, Repository } from '../../shared/registry/repository.ts';
import { startGatewayProcess, type TestGateway } from '../support/gateway.ts';
import { goPeer, ORAS } from '../support/go-peer.ts';
import { hasRegistry, startRegistry, type TestRegistry } from '../support/registry.ts';
import { putBytes, putTinyImage, storedManifest } from '../support/tiny-image.ts';

const NO_REGISTRY = 'docker-registry is not installed';
const { transport, close: closeTransport } = createTransport();

let registry: TestRegistry;
let gateway: TestGateway;
/** The same repository, asked directly: what clients without the gateway see. */
let direct: Repository;

beforeAll(async () => {
  if (!hasRegistry()) return;
  registry = await startRegistry();
  gateway = await startGatewayProcess(registry.url);
  direct = new Repository({ transport, baseUrl: new URL(registry.url), repository: 'os/image' });
});

afterAll(async () => {
  if (!hasRegistry()) return;
  await gateway.stop();
  await registry.stop();
  await closeTransport();
});

const image = async (name: string) => (await putTinyImage(direct, [{ name }])).stored;

async function artifact(subject: StoredManifest, artifactType: string, note = 'none') {
  const config = await putBytes(direct, OCI_EMPTY, '{}');
  const { digest, mediaType, bytes } = subject;
  return storedManifest({
    ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, artifactType, config, layers: [config] },
    subject: { mediaType, digest, size: bytes.byteLength },
    annotations: { note },
  });
}

const push = ({ digest, mediaType, bytes }: StoredManifest) =>
  fetch(`${gateway.url}/v2/os/image/manifests/${digest}`, {
    method: 'PUT',
    headers: { 'content-type': mediaType },
    body: Buffer.from(bytes),
  });

async function referrers(subject: Digest, query = '') {
  const answer = await fetch(`${gateway.url}/v2/os/image/referrers/${subject}${query}`);
  expect([answer.status, answer.headers.get('content-type')]).toEqual([200, OCI_INDEX]);
  return { answer, manifests: ((await answer.json()) as Index).manifests };
}

describe('the referrers API of a registry that has none', () => {
  it('lists what is pushed, also at once, and filters it', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const subject = await image('listed');
    const types = Array.from({ length: 12 }, (_, i) => `application/x.kind${i % 3}`);
    const pushed = await Promise.all(types.map((type, i) => artifact(subject, type, `${i}`)));
    const answers = await Promise.all(pushed.map(push));
    for (const answer of answers) {
      expect(answer.status).toBe(201);
      expect(answer.headers.get('oci-subject')).toBe(subject.digest);
    }
    const { manifests } = await referrers(subject.digest);
    const digests = pushed.map((one) => one.digest).toSorted();
    expect(manifests.map((one) => one.digest).toSorted()).toEqual(digests);
    const filter = `?artifactType=${encodeURIComponent('application/x.kind1')}`;
    const filtered = await referrers(subject.digest, filter);
    expect(filtered.answer.headers.get('oci-filters-applied')).toBe('artifactType');
    expect(filtered.manifests.map((one) => one.artifactType)).toEqual(
      new Array(4).fill('application/x.kind1'),
    );
    expect(filtered.manifests[0]?.annotations).toHaveProperty('note');
    // Clients that know the fallback alone see the same.
    const entries = await direct.listReferrers(subject.digest);
    expect(entries.map((one) => one.digest).toSorted()).toEqual(digests);
  });

  it('is empty for what nothing refers to, known or not', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const subject = await image('alone');
    expect((await referrers(subject.digest)).manifests).toEqual([]);
    expect((await referrers(`sha256:${'0'.repeat(64)}` as Digest)).manifests).toEqual([]);
  });

  it('believes manifests and not the index', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const subject = await image('subject');
    const other = await image('other subject');
    const honest = await artifact(subject, 'application/x.true', 'true');
    const foreign = await artifact(other, 'application/x.true');
    await push(honest);
    await push(foreign);
    const lie = ({ digest, bytes }: StoredManifest) => ({
      ...{ mediaType: OCI_MANIFEST, digest, size: bytes.byteLength },
      ...{ artifactType: 'application/x.lie', annotations: { note: 'lie' } },
    });
    const manifests = [lie(honest), lie(foreign), lie(other), lie(honest)];
    const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests };
    await direct.putManifest(storedManifest(index, OCI_INDEX), fallbackTag(subject.digest));
    const listed = (await referrers(subject.digest)).manifests;
    expect(listed).toEqual([
      {
        ...{ mediaType: OCI_MANIFEST, digest: honest.digest, size: honest.bytes.byteLength },
        ...{ artifactType: 'application/x.true', annotations: { note: 'true' } },
      },
    ]);
    const lies = await referrers(subject.digest, '?artifactType=application/x.lie');
    expect(lies.manifests).toEqual([]);
  });

  it('forgets what is deleted', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const subject = await image('deleted from');
    const [gone, kept] = [await artifact(subject, 'a/a'), await artifact(subject, 'b/b')];
    await push(gone);
    await push(kept);
    expect((await referrers(subject.digest)).manifests).toHaveLength(2);
    const url = `${gateway.url}/v2/os/image/manifests/${gone.digest}`;
    expect((await fetch(url, { method: 'DELETE' })).status).toBe(202);
    const { manifests } = await referrers(subject.digest);
    expect(manifests.map((one) => one.digest)).toEqual([kept.digest]);
  });

  it('serves oras', async (ctx) => {
    ctx.skip(!hasRegistry(), NO_REGISTRY);
    const oras = await goPeer(ORAS);
    if ('missing' in oras) return ctx.skip(oras.missing);
    const subject = await image('oras');
    const dir = await mkdtemp(join(tmpdir(), 'snapgate-oras-'));
    try {
      const env = { PATH: process.env.PATH, HOME: dir };
      const run = (...args: string[]) => promisify(execFile)(oras.path, args, { cwd: dir, env });
      const there = `${gateway.host}/os/image@${subject.digest}`;
      await writeFile(join(dir, 'sbom.json'), '{}');
      const api = ['--plain-http', '--distribution-spec', 'v1.1-referrers-api'];
      await run('attach', ...api, '--artifact-type', 'application/x.sbom', there, 'sbom.json');
      const { stdout } = await run('discover', ...api, '--format', 'json', there);
      expect(JSON.parse(stdout).referrers).toMatchObject([{ artifactType: 'application/x.sbom' }]);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }, 300_000);
});
