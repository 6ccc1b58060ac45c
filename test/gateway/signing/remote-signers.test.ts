import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, sign } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPkcs11 } from '../../../gateway/signing/pkcs11.ts';
import { signManifest } from '../../../gateway/signing/sign-manifest.ts';
import type { Signer } from '../../../gateway/signing/signer.ts';
import { openTransit } from '../../../gateway/signing/transit.ts';
import { parsePolicy } from '../../../shared/policy/policy.ts';
import { verifyManifest } from '../../../shared/policy/verify-manifest.ts';
import { hasProgram } from '../../support/has-program.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { putTinyImage } from '../../support/tiny-image.ts';

const MODULE = '/usr/lib/softhsm/libsofthsm2.so';

/** Signs an image and has the policy judge both forms. */
async function signsImages(signer: Signer): Promise<void> {
  const store = new MemoryStore();
  const { stored } = await putTinyImage(store, [{ a: '1' }]);
  const subject = { ...stored, size: stored.bytes.length };
  // Often enough for numbers of every length.
  for (let i = 0; i < 300; i += 1) await signer.sign(Buffer.from(String(i)));
  await signManifest(store, subject, { signer, dockerReference: 'a.test/os:v1' });
  const keys = { k: { pem: signer.publicKey.pem } };
  const rules = [{ repository: '*', images: { signers: ['k'] } }];
  const { signatures } = await verifyManifest({
    ...{ reader: store, repository: 'a.test/os', digest: stored.digest, kind: 'image' },
    ...{ policy: parsePolicy(JSON.stringify({ version: 1, keys, rules })), now: new Date() },
    examineAll: true,
  });
  expect(signatures.map(({ form, counted }) => [form, counted])).toEqual([
    ['bundle', true],
    ['legacy', true],
  ]);
}

describe('a key in a PKCS#11 token', () => {
  const skip =
    existsSync(MODULE) && hasProgram('softhsm2-util') ? undefined : 'softhsm2 is not installed';
  const options = { module: MODULE, token: 'snapgate test', key: 'release', pin: '4321' };
  let folder: string;
  const before = process.env.SOFTHSM2_CONF;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'snapgate-hsm-'));
    if (skip !== undefined) return;
    await mkdir(join(folder, 'tokens'));
    process.env.SOFTHSM2_CONF = join(folder, 'softhsm2.conf');
    const text = `directories.tokendir = ${folder}/tokens\nobjectstore.backend = file\n`;
    await writeFile(process.env.SOFTHSM2_CONF, text);
    const token = ['--token', options.token, '--pin', options.pin];
    const softhsm = (...args: string[]) =>
      execFileSync('softhsm2-util', args, { stdio: 'ignore', env: process.env });
    softhsm(
      '--init-token',
      '--free',
      '--label',
      options.token,
      '--pin',
      '4321',
      '--so-pin',
      '8765',
    );
    for (const [label, namedCurve, id] of [
      ['release', 'P-256', '01'],
      ['other', 'P-384', '02'],
    ] as const) {
      const { privateKey } = generateKeyPairSync('ec', { namedCurve });
      const file = join(folder, `${label}.pem`);
      await writeFile(file, privateKey.export({ type: 'pkcs8', format: 'pem' }));
      softhsm('--import', file, ...token, '--label', label, '--id', id);
    }
  });
  afterAll(async () => {
    if (before === undefined) delete process.env.SOFTHSM2_CONF;
    else process.env.SOFTHSM2_CONF = before;
    await rm(folder, { recursive: true, force: true });
  });

  it('is refused with a wrong PIN, label, token, kind or module', (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const refused = (changes: Partial<typeof options>, message: string) =>
      expect(() => openPkcs11({ ...options, ...changes })).toThrow(
        expect.objectContaining({ code: 'KEY_INVALID', message: expect.stringContaining(message) }),
      );
    refused({ pin: '0000' }, 'does not open with this PIN');
    refused({ key: 'nobody' }, '0 private keys');
    refused({ token: 'nowhere' }, 'no such token');
    refused({ module: '/nowhere.so' }, 'module');
    refused({ key: 'other' }, '');
  });

  it('signs images as any key does', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const signer = openPkcs11(options);
    await signsImages(signer);
    signer.close();
  });
});

describe('a key in the transit engine of a key service', () => {
  // A stand-in on loopback with the API's shape; the service itself is not run here.
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const answers = { type: 'ecdsa-p256', status: 200, signWith: privateKey };
  let server: Server;
  let url: URL;
  beforeAll(async () => {
    server = createServer(async (request, response) => {
      const send = (status: number, data: object) =>
        void response.writeHead(status).end(JSON.stringify({ data }));
      if (request.headers['x-vault-token'] !== 'secret') return send(403, {});
      if (answers.status !== 200) return send(answers.status, {});
      if (request.url === '/v1/transit/keys/release') {
        const pem = publicKey.export({ type: 'spki', format: 'pem' });
        const keys = { '1': { public_key: 'old' }, '2': { public_key: pem } };
        return send(200, { type: answers.type, latest_version: 2, keys });
      }
      const body = (await json(request)) as Record<string, unknown>;
      if (request.url !== '/v1/transit/sign/release/sha2-256') return send(404, {});
      expect(body).toMatchObject({ key_version: 2, marshaling_algorithm: 'asn1' });
      const signature = sign('sha256', Buffer.from(String(body.input), 'base64'), answers.signWith);
      send(200, { signature: `vault:v2:${signature.toString('base64')}` });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  });
  afterAll(() => new Promise<void>((resolve) => void server.close(() => resolve())));
  const open = (token = 'secret', key = 'release') => openTransit({ url, key, token });

  it('signs images as any key does', async () => {
    await signsImages(await open());
  });

  it('is refused without the right token, and the token is not told', async () => {
    const refusal = await open('wrong token').catch((thrown: unknown) => thrown);
    expect(refusal).toMatchObject({ code: 'UPSTREAM_FAILED', message: /403/ });
    expect(JSON.stringify(refusal)).not.toContain('wrong token');
  });

  it('is refused when it is of another type, signs with another key, or nobody answers', async () => {
    answers.type = 'ed25519';
    await expect(open()).rejects.toMatchObject({ code: 'UPSTREAM_FAILED' });
    answers.type = 'ecdsa-p256';
    const signer = await open();
    answers.signWith = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    await expect(signer.sign(Buffer.from('x'))).rejects.toMatchObject({ code: 'UPSTREAM_FAILED' });
    answers.signWith = privateKey;
    const nowhere = openTransit({ url: new URL('http://127.0.0.1:1'), key: 'k', token: 't' });
    await expect(nowhere).rejects.toMatchObject({ code: 'UPSTREAM_UNREACHABLE' });
  });
});
