import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { signImage } from '../../gateway/signing/sign-image.ts';
import { openKeyFile } from '../../gateway/signing/signer.ts';
import { createTransport } from '../../gateway/upstream/transport.ts';
import { isDigest } from '../../shared/digest.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { startGatewayProcess } from '../support/gateway.ts';
import { type Peer, peerMissing, peerPath } from '../support/peers.ts';
import { hasRegistry, startRegistry, type TestRegistry } from '../support/registry.ts';
import { type Ended, runProgramFile, snapgate } from '../support/run-program.ts';
import { moveSignatures, spoilSignatures } from '../support/spoil-signatures.ts';
import { putTinyDelta } from '../support/tiny-delta.ts';
import { putTinyImage, putTinyIndex } from '../support/tiny-image.ts';
import { VERIFIERS } from '../support/verifiers.ts';

const PASSWORD = 'correct horse';
const OFFLINE3 = ['--yes', '--use-signing-config=false', '--tlog-upload=false'];

let registry: TestRegistry;
let transport: ReturnType<typeof createTransport>;
let folder: string;
let env: Record<string, string>;
let serial = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'snapgate-signing-'));
  env = { COSIGN_PASSWORD: PASSWORD, HOME: folder, PODMAN_IGNORE_CGROUPSV1_WARNING: '1' };
  if (!hasRegistry()) return;
  registry = await startRegistry();
  transport = createTransport();
  for (const name of ['ours', 'other']) {
    const made = await snapgate(['keys', 'generate', '--output', at(name)], { env });
    expect(made).toMatchObject({ status: 0 });
  }
});

afterAll(async () => {
  await transport?.close();
  await registry?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Why a test cannot run here. */
function missing(...peers: Peer[]): string | undefined {
  return hasRegistry() ? peerMissing(...peers) : 'docker-registry is not installed';
}

const at = (name: string) => join(folder, name);
const peer = (name: Peer, args: readonly string[], more: Record<string, string> = {}) =>
  runProgramFile(peerPath(name), args, { env: { ...env, ...more }, cwd: folder });

/** A repository of its own for each test, with one small image under `v1`; skips without these peers. */
async function newRepository(ctx: TestContext, ...peers: Peer[]) {
  const why = missing(...peers);
  ctx.skip(why !== undefined, why);
  serial += 1;
  const repository = `os/edge${serial}`;
  const baseUrl = new URL(registry.url);
  const store = new Repository({ transport: transport.transport, baseUrl, repository });
  const image = await putTinyImage(store, [{ 'etc/issue': `image ${serial}` }], { tag: 'v1' });
  return { store, image, name: `${registry.host}/${repository}` };
}

/** Signs an image without the cost of a process; the command line has its own tests. */
async function sign(
  { store, name }: Awaited<ReturnType<typeof newRepository>>,
  tagOrDigest: string,
  key = 'ours',
): Promise<void> {
  const signer = await openKeyFile(at(`${key}.key`), PASSWORD);
  const dockerReference = isDigest(tagOrDigest) ? name : `${name}:${tagOrDigest}`;
  await signImage(store, await store.getManifest(tagOrDigest), { signer, dockerReference });
}

/** Judges a reference that must be refused, and for its signatures at that. */
async function expectRefusal(verdict: Promise<Ended>): Promise<void> {
  const { status, stderr } = await verdict;
  expect(status).not.toBe(0);
  expect(stderr).toMatch(/signature/i);
}

describe('an image that we sign', () => {
  it.for(VERIFIERS)(
    'is accepted by $title, with its index and platforms',
    async ({ peer: name, verify }, ctx) => {
      const place = await newRepository(ctx, name);
      const { store, image, name: repository } = place;
      const arm64 = await putTinyImage(store, [{ a: '2' }], { architecture: 'arm64' });
      await putTinyIndex(store, { amd64: image, arm64 }, 'multi');
      await sign(place, 'multi');
      for (const reference of [`${repository}:multi`, `${repository}@${arm64.stored.digest}`]) {
        expect(await verify(reference, at('ours.pub'), folder)).toMatchObject({ status: 0 });
      }
    },
  );

  it.for(VERIFIERS)(
    'is refused by $title without, and with another key',
    async ({ peer: name, verify }, ctx) => {
      const place = await newRepository(ctx, name);
      const { name: repository } = place;
      await expectRefusal(verify(`${repository}:v1`, at('ours.pub'), folder));
      await sign(place, 'v1');
      await expectRefusal(verify(`${repository}:v1`, at('other.pub'), folder));
    },
  );

  it.for(VERIFIERS)(
    'is refused by $title when its content was tampered with',
    async ({ peer: name, verify }, ctx) => {
      const place = await newRepository(ctx, name);
      const { store, image, name: repository } = place;
      await sign(place, 'v1');
      const evil = await putTinyImage(store, [{ 'etc/issue': 'evil' }], { tag: 'v1' });
      await moveSignatures(store, image.stored.digest, evil.stored);
      await expectRefusal(verify(`${repository}:v1`, at('ours.pub'), folder));
    },
  );

  it.for(VERIFIERS)(
    'is refused by $title when its signatures were tampered with',
    async ({ peer: name, verify }, ctx) => {
      const place = await newRepository(ctx, name);
      const { store, image, name: repository } = place;
      await sign(place, 'v1');
      expect(await verify(`${repository}:v1`, at('ours.pub'), folder)).toMatchObject({ status: 0 });
      await spoilSignatures(store, image.stored);
      await expectRefusal(verify(`${repository}:v1`, at('ours.pub'), folder));
    },
  );
});

describe('an image that was tampered with', () => {
  it('is refused by our own commands, which say why', async (ctx) => {
    const place = await newRepository(ctx);
    const { store, image, name } = place;
    const reference = `docker://${name}:v1`;
    const verify = () => snapgate(['verify', reference, '--key', at('ours.pub')]);
    const signed = await snapgate(['sign', reference, '--key', at('ours.key')], { env });
    expect(signed).toMatchObject({ status: 0, stderr: '' });
    expect(await verify()).toMatchObject({ status: 0 });
    const evil = await putTinyImage(store, [{ 'etc/issue': 'evil' }], { tag: 'v1' });
    await moveSignatures(store, image.stored.digest, evil.stored);
    const moved = await verify();
    expect(moved).toMatchObject({ status: 3, stderr: expect.stringContaining('another digest') });
    await store.putManifest(image.stored, 'v1');
    await spoilSignatures(store, image.stored);
    const spoilt = await verify();
    expect(spoilt).toMatchObject({ status: 3, stderr: expect.stringContaining('does not fit') });
    expect(spoilt.stderr).toContain('SIGNATURE_INVALID');
  });
});

describe('a delta that we sign', () => {
  it.for(['cosign2', 'cosign3'] as const)('is accepted by %s', async (name, ctx) => {
    const place = await newRepository(ctx, name);
    const { store, image, name: repository } = place;
    const next = await putTinyImage(store, [{ 'etc/issue': 'next' }], { tag: 'v2' });
    const delta = await putTinyDelta(store, image, next);
    await sign(place, delta.digest);
    const reference = `${repository}@${delta.digest}`;
    const args = ['verify', '--key', at('ours.pub'), '--insecure-ignore-tlog', reference];
    expect(await peer(name, args)).toMatchObject({ status: 0 });
  });
});

describe('keys', () => {
  it.for(['cosign2', 'cosign3'] as const)('of ours are read by %s', async (name, ctx) => {
    const why = missing(name);
    ctx.skip(why !== undefined, why);
    const shown = await peer(name, ['public-key', '--key', at('ours.key')]);
    expect(shown.stdout.trim()).toBe((await readFile(at('ours.pub'), 'utf8')).trim());
  });

  it('of cosign sign here', async (ctx) => {
    const place = await newRepository(ctx, 'cosign2', 'cosign3');
    for (const maker of ['cosign2', 'cosign3'] as const) {
      const made = await peer(maker, ['generate-key-pair', '--output-key-prefix', maker]);
      expect(made).toMatchObject({ status: 0 });
      const shown = await snapgate(['keys', 'show', at(`${maker}.key`), '--json'], { env });
      const pem = (await readFile(at(`${maker}.pub`), 'utf8')).trim();
      expect(JSON.parse(shown.stdout).publicKey.trim()).toBe(pem);
      await sign(place, 'v1', maker);
    }
    for (const { title, peer: name, verify } of VERIFIERS) {
      if (missing(name) !== undefined) continue;
      for (const maker of ['cosign2', 'cosign3']) {
        const { status } = await verify(`${place.name}:v1`, at(`${maker}.pub`), folder);
        expect(`${title}: ${status}`).toBe(`${title}: 0`);
      }
    }
  });
});

/** The ways in which cosign signs: which, its name, more arguments. */
const COSIGN_FORMS = [
  ['cosign2', 'legacy', ['--yes', '--tlog-upload=false']],
  ['cosign3', 'legacy', [...OFFLINE3, '--new-bundle-format=false']],
  ['cosign3', 'bundle', OFFLINE3],
] as const;

describe('signatures by cosign', () => {
  it.for(COSIGN_FORMS)('%s, %s, are accepted here', async ([name, form, options], ctx) => {
    const place = await newRepository(ctx, name);
    const { image, name: repository } = place;
    const reference = `${repository}@${image.stored.digest}`;
    const args = ['sign', ...options, '--key', at('ours.key'), reference];
    expect(await peer(name, args)).toMatchObject({ status: 0 });
    const verify = ['verify', `docker://${repository}:v1`, '--json', '--key', at('ours.pub')];
    const judged = await snapgate(verify);
    expect(judged).toMatchObject({ status: 0 });
    expect(JSON.parse(judged.stdout).signatures).toMatchObject([{ form, counted: true }]);
  });

  it('and ours live side by side', async (ctx) => {
    const place = await newRepository(ctx, 'cosign2', 'cosign3');
    const { image, name: repository } = place;
    const reference = `${repository}@${image.stored.digest}`;
    for (const [name, , options] of COSIGN_FORMS) {
      await peer(name, ['sign', ...options, '--key', at('ours.key'), reference]);
    }
    await sign(place, 'v1', 'other');
    await peer('cosign2', ['sign', ...COSIGN_FORMS[0][2], '--key', at('ours.key'), reference]);
    for (const key of ['ours', 'other']) {
      for (const { peer: name, verify } of VERIFIERS) {
        if (missing(name) !== undefined) continue;
        if (!name.startsWith('cosign') && key === 'ours') continue;
        const judged = await verify(`${repository}:v1`, at(`${key}.pub`), folder);
        expect(`${name} ${key} ${judged.status} ${judged.stderr}`).toContain(`${name} ${key} 0`);
      }
    }
    await writeFile(
      at('both.json'),
      JSON.stringify({
        version: 1,
        keys: {
          ours: { pem: await readFile(at('ours.pub'), 'utf8') },
          other: { pem: await readFile(at('other.pub'), 'utf8') },
        },
        rules: [
          {
            repository: `${registry.host}/os/*`,
            images: { signers: ['ours', 'other'], threshold: 2 },
          },
        ],
      }),
    );
    const args = ['verify', `docker://${repository}:v1`, '--policy', at('both.json')];
    expect(await snapgate(args)).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('accepted: signed by ours, other'),
    });
  });
});

describe('a gateway with a key', () => {
  it('signs what a client asks the way to, as cosign sees through it', async (ctx) => {
    const { store, image } = await newRepository(ctx, 'cosign3');
    const repository = store.name.slice(registry.host.length + 1);
    await writeFile(at('password'), PASSWORD);
    const rule = { repository: 'os/*', key: at('ours.key'), passwordFile: at('password') };
    const gateway = await startGatewayProcess(registry.url, { signing: [rule] });
    try {
      const body = JSON.stringify({ target: 'v1', have: [] });
      const headers = { 'content-type': 'application/json' };
      const url = `${gateway.url}/v2/${repository}/_snapgate/plan`;
      const answer = await fetch(url, { method: 'POST', headers, body });
      expect(await answer.json()).toMatchObject({ target: { manifest: image.stored.digest } });
      const reference = `${gateway.host}/${repository}:v1`;
      const args = ['verify', '--key', at('ours.pub'), '--insecure-ignore-tlog', reference];
      expect(await peer('cosign3', args)).toMatchObject({ status: 0 });
      expect(gateway.log).toContainEqual(
        expect.objectContaining({ message: 'signed', kind: 'image', repository }),
      );
    } finally {
      await gateway.stop();
    }
  });

  it('signs at the push, where it is told to, for a client that asks right after', async (ctx) => {
    const why = missing('cosign3');
    ctx.skip(why !== undefined, why);
    await writeFile(at('password'), PASSWORD);
    const rule = { repository: 'os/*', key: at('ours.key'), passwordFile: at('password') };
    const gateway = await startGatewayProcess(registry.url, { signing: [{ ...rule, on: 'push' }] });
    try {
      const store = throughGateway(gateway.url, 'os/pushed');
      const amd64 = await putTinyImage(store, [{ a: 'pushed' }]);
      const arm64 = await putTinyImage(store, [{ a: 'too' }], { architecture: 'arm64' });
      await putTinyIndex(store, { amd64, arm64 }, 'v1');
      const verify = ['verify', '--key', at('ours.pub'), '--insecure-ignore-tlog'];
      for (const reference of ['os/pushed:v1', `os/pushed@${arm64.stored.digest}`]) {
        expect(await peer('cosign3', [...verify, `${gateway.host}/${reference}`])).toMatchObject({
          status: 0,
        });
      }
    } finally {
      await gateway.stop();
    }
  });

  it("signs when the publisher's signature comes, where it asks for one", async (ctx) => {
    const why = missing('cosign3');
    ctx.skip(why !== undefined, why);
    await writeFile(at('password'), PASSWORD);
    const pem = await readFile(at('other.pub'), 'utf8');
    const images = { signers: ['publisher'] };
    const rules = [{ repository: '*', images }];
    const policy = { version: 1, keys: { publisher: { pem } }, rules };
    await writeFile(at('publisher.json'), JSON.stringify(policy));
    const rule = { repository: 'os/*', key: at('ours.key'), passwordFile: at('password') };
    const more = { on: 'push', requirePublisher: at('publisher.json') };
    const gateway = await startGatewayProcess(registry.url, { signing: [{ ...rule, ...more }] });
    try {
      await putTinyImage(throughGateway(gateway.url, 'os/late'), [{ a: 'late' }], { tag: 'v1' });
      const reference = `${gateway.host}/os/late:v1`;
      const verify = ['verify', '--key', at('ours.pub'), '--insecure-ignore-tlog', reference];
      expect((await peer('cosign3', verify)).status).not.toBe(0);
      const signed = await peer('cosign3', [
        'sign',
        ...OFFLINE3,
        '--key',
        at('other.key'),
        reference,
      ]);
      expect(signed.status, signed.stderr).toBe(0);
      expect(await peer('cosign3', verify)).toMatchObject({ status: 0 });
    } finally {
      await gateway.stop();
    }
  });
});

function throughGateway(url: string, repository: string): Repository {
  return new Repository({
    ...{ transport: transport.transport, baseUrl: new URL(url), repository },
  });
}
