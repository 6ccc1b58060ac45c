import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { signKeyless } from '../../gateway/signing/keyless.ts';
import { createTransport } from '../../gateway/upstream/transport.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { peerMissing, peerPath } from '../support/peers.ts';
import { hasRegistry, startRegistry } from '../support/registry.ts';
import { runProgramFile } from '../support/run-program.ts';
import { startSigstore } from '../support/sigstore.ts';
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
