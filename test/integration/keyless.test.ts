import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { signKeyless } from '../../gateway/signing/keyless.ts';
import { createTransport } from '../../gateway/upstream/transport.ts';
import { parsePolicy } from '../../shared/policy/policy.ts';
import { verifyManifest } from '../../shared/policy/verify-manifest.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { peerMissing, peerPath } from '../support/peers.ts';
import { hasRegistry, startRegistry } from '../support/registry.ts';
import { runProgramFile } from '../support/run-program.ts';
import { startSigstore } from '../support/sigstore.ts';
import { startSigstoreServers } from '../support/sigstore-servers.ts';
import { putTinyImage } from '../support/tiny-image.ts';

const ISSUER = 'https://issuer.test';
const SUBJECT = 'https://code.test/os/release.yml@refs/heads/main';

describe('a signature without a key', () => {
  it('is verified by cosign', { timeout: 60_000 }, async (ctx) => {
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
  it('is verified by the host and by cosign', { timeout: 600_000 }, async (ctx) => {
    const reason = hasRegistry() ? peerMissing('cosign3') : 'docker-registry is not installed';
    ctx.skip(reason !== undefined, reason);
    const servers = await startSigstoreServers();
    ctx.skip('missing' in servers, 'missing' in servers ? servers.missing : '');
    if ('missing' in servers) return;
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
      await Promise.all([servers.close(), registry.stop(), close()]);
      await rm(folder, { recursive: true, force: true });
    }
  });
});
