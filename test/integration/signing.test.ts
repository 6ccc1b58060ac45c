import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTransport } from '../../gateway/upstream/transport.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { type Peer, peerMissing, peerPath } from '../support/peers.ts';
import { hasRegistry, startRegistry, type TestRegistry } from '../support/registry.ts';
import { type Ended, runProgramFile, snapgate } from '../support/run-program.ts';
import { writeSignaturePolicy } from '../support/signature-policy.ts';
import { moveSignatures, spoilSignatures } from '../support/spoil-signatures.ts';
import { putTinyDelta } from '../support/tiny-delta.ts';
import { putTinyImage, putTinyIndex } from '../support/tiny-image.ts';

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
  const made = await snapgate(['keys', 'generate', '--output', join(folder, 'ours')], { env });
  expect(made).toMatchObject({ status: 0 });
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

/** A repository of its own for each test, with one small image under `v1`. */
async function newRepository() {
  serial += 1;
  const repository = `os/edge${serial}`;
  const baseUrl = new URL(registry.url);
  const store = new Repository({ transport: transport.transport, baseUrl, repository });
  const image = await putTinyImage(store, [{ 'etc/issue': `image ${serial}` }], { tag: 'v1' });
  return { store, image, name: `${registry.host}/${repository}` };
}

async function sign(reference: string, key = 'ours'): Promise<void> {
  const args = ['sign', `docker://${reference}`, '--key', at(`${key}.key`)];
  expect(await snapgate(args, { env })).toMatchObject({ status: 0, stderr: '' });
}

/** Every verifier there is, each as: judge a reference by a public key. */
const VERIFIERS: readonly [string, Peer, (reference: string, key: string) => Promise<Ended>][] = [
  [
    'cosign 2',
    'cosign2',
    (reference, key) =>
      peer('cosign2', ['verify', '--key', key, '--insecure-ignore-tlog', reference]),
  ],
  [
    'cosign 3',
    'cosign3',
    (reference, key) =>
      peer('cosign3', ['verify', '--key', key, '--insecure-ignore-tlog', reference]),
  ],
  ['skopeo 1.18', 'skopeo-trixie', (reference, key) => skopeo('skopeo-trixie', reference, key)],
  ['skopeo 1.22', 'skopeo-sid', (reference, key) => skopeo('skopeo-sid', reference, key)],
  ['podman 5.4', 'podman5', podman],
];

async function skopeo(name: Peer, reference: string, key: string): Promise<Ended> {
  const home = await mkdtemp(at('skopeo-'));
  const policy = await writeSignaturePolicy(home, registry.host, key, 'matchRepoDigestOrExact');
  const copy = ['copy', '--src-tls-verify=false', `docker://${reference}`, `dir:${home}/image`];
  return peer(name, [...policy.skopeo, ...copy]);
}

async function podman(reference: string, key: string): Promise<Ended> {
  const home = await mkdtemp(at('podman-'));
  await writeSignaturePolicy(home, registry.host, key);
  const storage = ['--root', `${home}/root`, '--runroot', `${home}/run`, '--storage-driver', 'vfs'];
  const pull = ['pull', '-q', '--tls-verify=false', reference];
  return peer('podman5', [...storage, ...pull], { HOME: home });
}

/** Judges a reference that must be refused, and for its signatures at that. */
async function expectRefusal(verdict: Promise<Ended>): Promise<void> {
  const { status, stderr } = await verdict;
  console.log(
    stderr
      .split('\n')
      .filter((l) => /rror/.test(l))
      .join('|')
      .slice(0, 300),
  );
  expect(status).not.toBe(0);
  expect(stderr).toMatch(/signature/i);
}

describe('an image that we sign', () => {
  it.for(VERIFIERS)(
    'is accepted by %s, with its index and platforms',
    async ([, name, verify], ctx) => {
      const why = missing(name);
      ctx.skip(why !== undefined, why);
      const { store, image, name: repository } = await newRepository();
      const arm64 = await putTinyImage(store, [{ a: '2' }], { architecture: 'arm64' });
      await putTinyIndex(store, { amd64: image, arm64 }, 'multi');
      await sign(`${repository}:multi`);
      for (const reference of [`${repository}:multi`, `${repository}@${arm64.stored.digest}`]) {
        expect(await verify(reference, at('ours.pub'))).toMatchObject({ status: 0 });
      }
    },
  );

  it.for(VERIFIERS)(
    'is refused by %s without, and with another key',
    async ([, name, verify], ctx) => {
      const why = missing(name);
      ctx.skip(why !== undefined, why);
      const { name: repository } = await newRepository();
      await expectRefusal(verify(`${repository}:v1`, at('ours.pub')));
      await snapgate(['keys', 'generate', '--output', at(`other-${name}`)], { env });
      await sign(`${repository}:v1`);
      await expectRefusal(verify(`${repository}:v1`, at(`other-${name}.pub`)));
    },
  );

  it.for(VERIFIERS)(
    'is refused by %s when its content was tampered with',
    async ([, name, verify], ctx) => {
      const why = missing(name);
      ctx.skip(why !== undefined, why);
      const { store, image, name: repository } = await newRepository();
      await sign(`${repository}:v1`);
      const evil = await putTinyImage(store, [{ 'etc/issue': 'evil' }], { tag: 'v1' });
      await moveSignatures(store, image.stored.digest, evil.stored);
      await expectRefusal(verify(`${repository}:v1`, at('ours.pub')));
      const ours = await snapgate(['verify', `docker://${repository}:v1`, '--key', at('ours.pub')]);
      expect(ours.status).toBe(3);
      expect(ours.stderr).toContain('SIGNATURE_INVALID');
      expect(ours.stderr).toContain('another digest');
    },
  );

  it.for(VERIFIERS)(
    'is refused by %s when its signatures were tampered with',
    async ([, name, verify], ctx) => {
      const why = missing(name);
      ctx.skip(why !== undefined, why);
      const { store, image, name: repository } = await newRepository();
      await sign(`${repository}:v1`);
      expect(await verify(`${repository}:v1`, at('ours.pub'))).toMatchObject({ status: 0 });
      await spoilSignatures(store, image.stored);
      await expectRefusal(verify(`${repository}:v1`, at('ours.pub')));
      const ours = await snapgate(['verify', `docker://${repository}:v1`, '--key', at('ours.pub')]);
      expect(ours).toMatchObject({ status: 3, stderr: expect.stringContaining('does not fit') });
    },
  );
});

describe('a delta that we sign', () => {
  it.for(['cosign2', 'cosign3'] as const)('is accepted by %s', async (name, ctx) => {
    const why = missing(name);
    ctx.skip(why !== undefined, why);
    const { store, image, name: repository } = await newRepository();
    const next = await putTinyImage(store, [{ 'etc/issue': 'next' }], { tag: 'v2' });
    const delta = await putTinyDelta(store, image, next);
    await sign(`${repository}@${delta.digest}`);
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

  it.for(VERIFIERS)('of cosign sign here, for %s', async ([, name, verify], ctx) => {
    const why = missing('cosign2', 'cosign3', name);
    ctx.skip(why !== undefined, why);
    const { name: repository } = await newRepository();
    for (const maker of ['cosign2', 'cosign3'] as const) {
      const prefix = `${maker}-for-${name}`;
      const args = ['generate-key-pair', '--output-key-prefix', prefix];
      expect(await peer(maker, args)).toMatchObject({ status: 0 });
      const shown = await snapgate(['keys', 'show', at(`${prefix}.key`), '--json'], { env });
      const pem = (await readFile(at(`${prefix}.pub`), 'utf8')).trim();
      expect(JSON.parse(shown.stdout).publicKey.trim()).toBe(pem);
      await sign(`${repository}:v1`, prefix);
    }
    for (const maker of ['cosign2', 'cosign3']) {
      const key = at(`${maker}-for-${name}.pub`);
      expect(await verify(`${repository}:v1`, key)).toMatchObject({ status: 0 });
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
    const why = missing(name);
    ctx.skip(why !== undefined, why);
    const { name: repository, image } = await newRepository();
    const reference = `${repository}@${image.stored.digest}`;
    const args = ['sign', ...options, '--key', at('ours.key'), reference];
    expect(await peer(name, args)).toMatchObject({ status: 0 });
    const verify = ['verify', `docker://${repository}:v1`, '--json', '--key', at('ours.pub')];
    const judged = await snapgate(verify);
    expect(judged).toMatchObject({ status: 0 });
    expect(JSON.parse(judged.stdout).signatures).toMatchObject([{ form, counted: true }]);
  });

  it('and ours live side by side', async (ctx) => {
    const why = missing('cosign2', 'cosign3');
    ctx.skip(why !== undefined, why);
    const { name: repository, image } = await newRepository();
    const reference = `${repository}@${image.stored.digest}`;
    await snapgate(['keys', 'generate', '--output', at('beside')], { env });
    for (const [name, , options] of COSIGN_FORMS) {
      await peer(name, ['sign', ...options, '--key', at('ours.key'), reference]);
    }
    await sign(`${repository}:v1`, 'beside');
    await peer('cosign2', ['sign', ...COSIGN_FORMS[0][2], '--key', at('ours.key'), reference]);
    for (const key of ['ours', 'beside']) {
      for (const [, name, verify] of VERIFIERS) {
        if (missing(name) !== undefined) continue;
        if (!name.startsWith('cosign') && key === 'ours') continue;
        const judged = await verify(`${repository}:v1`, at(`${key}.pub`));
        expect(`${name} ${key} ${judged.status} ${judged.stderr}`).toContain(`${name} ${key} 0`);
      }
    }
    await writeFile(
      at('both.json'),
      JSON.stringify({
        version: 1,
        keys: {
          ours: { pem: await readFile(at('ours.pub'), 'utf8') },
          beside: { pem: await readFile(at('beside.pub'), 'utf8') },
        },
        rules: [
          {
            repository: `${registry.host}/os/*`,
            images: { signers: ['ours', 'beside'], threshold: 2 },
          },
        ],
      }),
    );
    const args = ['verify', `docker://${repository}:v1`, '--policy', at('both.json')];
    expect(await snapgate(args)).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('accepted: signed by ours, beside'),
    });
  });
});
