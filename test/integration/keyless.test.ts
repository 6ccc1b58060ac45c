import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTransport } from '../../gateway/upstream/transport.ts';
import { parsePolicy } from '../../shared/policy/policy.ts';
import { verifyManifest } from '../../shared/policy/verify-manifest.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { startGatewayProcess } from '../support/gateway.ts';
import { peerMissing, peerPath } from '../support/peers.ts';
import { hasRegistry, startRegistry } from '../support/registry.ts';
import { runProgramFile, snapgate } from '../support/run-program.ts';
import { signKeyless, startSigstore } from '../support/sigstore.ts';
import { type SigstoreServers, startSigstoreServers } from '../support/sigstore-servers.ts';
import { putTinyImage } from '../support/tiny-image.ts';

const ISSUER = 'https://issuer.test';
const SUBJECT = 'https://code.test/os/release.yml@refs/heads/main';

describe('a signature without a key', () => {
  it('is verified by cosign', async (ctx) => {
    const reason = hasRegistry() ? peerMissing('cosign3') : 'docker-registry is not installed';
    ctx.skip(reason !== undefined, reason);
    const folder = await mkdtemp(join(tmpdir(), 'snapgate-keyless-'));
    const [registry, services] = await Promise.all([startRegistry(), startSigstore()]);
    const { transport, close } = createTransport();
    const baseUrl = new URL(registry.url);
    const store = new Repository({ transport, baseUrl, repository: 'os/edge' });
    const { stored } = await putTinyImage(store, [{ a: '1' }], { tag: 'v1' });
    const subject = { ...stored, size: stored.bytes.length };
    await signKeyless(store, subject, services.signer(SUBJECT, ISSUER));
    const trustedRoot = join(folder, 'trusted_root.json');
    await writeFile(trustedRoot, JSON.stringify(services.trustedRoot));
    const verify = (identity: string, issuer: string) =>
      runProgramFile(
        peerPath('cosign3'),
        [
          ...['verify', '--trusted-root', trustedRoot, '--allow-http-registry'],
          ...['--certificate-identity', identity, '--certificate-oidc-issuer', issuer],
          ...['--use-signed-timestamps', `${registry.host}/os/edge:v1`],
        ],
        { env: { HOME: folder } },
      );
    const good = await verify(SUBJECT, ISSUER);
    expect(good.status, good.stderr).toBe(0);
    expect((await verify(`${SUBJECT}x`, ISSUER)).status).not.toBe(0);
    await Promise.all([registry.stop(), services.close(), close()]);
    await rm(folder, { recursive: true, force: true });
  });
});

describe("a signature by way of Sigstore's own servers, with a log of API version 2", () => {
  let servers: SigstoreServers;
  let skipServers: string | undefined;
  beforeAll(async () => {
    if (!hasRegistry()) skipServers = 'docker-registry is not installed';
    if (skipServers !== undefined) return;
    const started = await startSigstoreServers();
    if ('missing' in started) skipServers = started.missing;
    else servers = started;
  }, 900_000);
  afterAll(() => servers?.close());

  it('is verified by the host and by cosign', async (ctx) => {
    const reason = peerMissing('cosign3') ?? skipServers;
    ctx.skip(reason !== undefined, reason);
    const folder = await mkdtemp(join(tmpdir(), 'snapgate-servers-'));
    const registry = await startRegistry();
    const { transport, close } = createTransport();
    const { fulcio, rekor, timestamps, issuer, trustedRoot } = servers;
    try {
      const baseUrl = new URL(registry.url);
      const store = new Repository({ transport, baseUrl, repository: 'os/edge' });
      const { stored } = await putTinyImage(store, [{ a: '1' }], { tag: 'v1' });
      const who = { sub: 'x', email: 'dev@os.test', email_verified: true };
      await signKeyless(
        store,
        { ...stored, size: stored.bytes.length },
        {
          ...{ certificateAuthority: fulcio, timestampAuthority: timestamps },
          transparencyLog: { url: rekor, version: 2 },
          identityToken: () => issuer.token(who, 'sigstore'),
        },
      );
      const judge = (subject: string, issuedBy: string, root: object = trustedRoot) => {
        const identity = { issuer: issuedBy, subject, trustedRoot: 'own' };
        const thresholds = { transparencyLogs: 1, timestamps: 1 };
        const policy = parsePolicy(
          JSON.stringify({
            ...{ version: 1, trustedRoots: { own: root } },
            identities: { dev: { ...identity, ...thresholds } },
            rules: [{ repository: 'gate.test/os/*', images: { signers: ['dev'] } }],
          }),
          'policy.json',
        );
        return verifyManifest({
          ...{ reader: store, repository: 'gate.test/os/edge', digest: stored.digest },
          ...{ kind: 'image', policy, now: new Date() },
        });
      };
      expect((await judge('dev@os.test', issuer.url)).signers).toEqual(['dev']);
      for (const [subject, by] of [
        ...[
          ['dev@os.test', `${issuer.url}/`],
          ['dev@os_test', issuer.url],
        ],
      ] as const) {
        await expect(judge(subject, by)).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' });
      }
      const logless = { ...trustedRoot, tlogs: [] };
      await expect(judge('dev@os.test', issuer.url, logless)).rejects.toMatchObject({
        code: 'SIGNATURE_INVALID',
      });
      const verify = async (identity: string, root: object = trustedRoot) => {
        const file = join(folder, 'trusted_root.json');
        await writeFile(file, JSON.stringify(root));
        return runProgramFile(
          peerPath('cosign3'),
          [
            ...['verify', '--trusted-root', file, '--allow-http-registry', '--insecure-ignore-sct'],
            ...['--certificate-identity', identity, '--certificate-oidc-issuer', issuer.url],
            ...['--use-signed-timestamps', `${registry.host}/os/edge:v1`],
          ],
          { env: { HOME: folder } },
        );
      };
      const good = await verify('dev@os.test');
      expect(good.status, good.stderr).toBe(0);
      expect((await verify('dev@os_test')).status).not.toBe(0);
      expect((await verify('dev@os.test', logless)).status).not.toBe(0);
    } finally {
      await Promise.all([registry.stop(), close()]);
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('is made by the gateway and by snapgate sign', async (ctx) => {
    ctx.skip(skipServers !== undefined, skipServers);
    const folder = await mkdtemp(join(tmpdir(), 'snapgate-servers-'));
    const at = (name: string) => join(folder, name);
    const registry = await startRegistry();
    const { transport, close } = createTransport();
    const { fulcio, rekor, timestamps, issuer, trustedRoot } = servers;
    const who = { sub: 'x', email: 'gateway@os.test', email_verified: true };
    const token = await issuer.token(who, 'sigstore');
    await writeFile(at('token'), `${token}\n`);
    await writeFile(at('trusted_root.json'), JSON.stringify(trustedRoot));
    const keyless = {
      ...{ fulcio: fulcio.origin, rekor: { url: rekor.origin }, tokenFile: at('token') },
      ...{ timestampAuthority: timestamps.origin, trustedRoot: at('trusted_root.json') },
      ...{ issuer: issuer.url, subject: 'gateway@os.test' },
    };
    const signing = (more: object) => [{ repository: 'os/*', on: 'push', keyless, ...more }];
    const gateway = await startGatewayProcess(registry.url, { signing: signing({}) });
    // Whoever it takes itself for must be whom the services name.
    const mistaken = await startGatewayProcess(registry.url, {
      signing: signing({ keyless: { ...keyless, subject: 'other@os.test' } }),
    });
    try {
      const openStore = (url: string, repository: string) =>
        new Repository({ transport, baseUrl: new URL(url), repository });
      await writeFile(
        at('policy.json'),
        JSON.stringify({
          ...{ version: 1, trustedRoots: { own: trustedRoot } },
          identities: {
            gateway: {
              ...{ issuer: issuer.url, subject: 'gateway@os.test', trustedRoot: 'own' },
              ...{ transparencyLogs: 1, timestamps: 1 },
            },
          },
          rules: [{ repository: '*', images: { signers: ['gateway'] } }],
        }),
      );
      const verify = (name: string) =>
        snapgate(['verify', `docker://${registry.host}/${name}`, '--policy', at('policy.json')]);
      const image = [{ a: '1' }];
      await putTinyImage(openStore(gateway.url, 'os/one'), image, { tag: 'v1' });
      expect(await verify('os/one:v1')).toMatchObject({ status: 0 });
      // A second push and a plan find what is signed already.
      await putTinyImage(openStore(gateway.url, 'os/one'), image, { tag: 'v2' });
      const outcomes = gateway.log.filter(({ kind }) => kind === 'image').map((l) => l.message);
      expect(outcomes).toEqual(['signed']);
      const store = openStore(registry.url, 'os/one');
      const { digest } = await store.getManifest('v1');
      expect(await store.listReferrers(digest)).toHaveLength(1);

      await putTinyImage(openStore(mistaken.url, 'os/two'), [{ a: '2' }], { tag: 'v1' });
      expect((await verify('os/two:v1')).status).not.toBe(0);
      expect(JSON.stringify(mistaken.log)).toContain('gateway@os.test, who does not count here');
      expect(JSON.stringify([...gateway.log, ...mistaken.log])).not.toContain(token.slice(0, 30));

      const signed = await snapgate([
        ...['sign', `docker://${registry.host}/os/two:v1`, '--identity-token-file', at('token')],
        ...['--fulcio', fulcio.href, '--rekor', rekor.href, '--rekor-version', '2'],
        ...['--timestamp-authority', timestamps.href],
      ]);
      expect(signed.status, signed.stderr).toBe(0);
      expect(await verify('os/two:v1')).toMatchObject({ status: 0 });
    } finally {
      await Promise.all([gateway.stop(), mistaken.stop()]);
      await Promise.all([registry.stop(), close()]);
      await rm(folder, { recursive: true, force: true });
    }
  });
});
