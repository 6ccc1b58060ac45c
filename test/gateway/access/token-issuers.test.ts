import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type TokenIssuer, TokenIssuers } from '../../../gateway/access/token-issuers.ts';
import { createTransport } from '../../../gateway/upstream/transport.ts';

type Pair = Awaited<ReturnType<typeof generateKeyPair>>;
const code = (wanted: string) => expect.objectContaining({ code: wanted });

let server: Server;
let origin: string;
let connections: ReturnType<typeof createTransport>;
let keys: unknown;
let asked: string[];
let pair: Pair;

beforeEach(async () => {
  asked = [];
  server = createServer((request, response) => {
    asked.push(request.url ?? '');
    const body = request.url === '/keys' ? keys : { issuer: origin, jwks_uri: `${origin}/keys` };
    response.end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  connections = createTransport();
  pair = await generateKeyPair('ES256');
  keys = { keys: [{ ...(await exportJWK(pair.publicKey)), kid: 'one', alg: 'ES256' }] };
});
afterEach(async () => {
  await connections.close();
  await new Promise((resolve) => server.close(resolve));
});

const open = (more: Partial<TokenIssuer> = {}) =>
  new TokenIssuers(
    [{ name: 'ci', issuer: origin, audience: 'gateway', claim: 'sub', require: {}, ...more }],
    () => connections.transport,
  );
const claims = (more: JWTPayload = {}): JWTPayload => {
  const now = Math.floor(Date.now() / 1000);
  return { iss: origin, aud: 'gateway', sub: 'a/b', iat: now, exp: now + 300, ...more };
};
const sign = (payload: JWTPayload, key = pair.privateKey, header: object = {}) =>
  new SignJWT(payload).setProtectedHeader({ alg: 'ES256', kid: 'one', ...header }).sign(key);

describe('a token', () => {
  it('of a known issuer says who holds it, and its keys are asked for once', async () => {
    const issuers = open();
    const { principal, until } = await issuers.verify(await sign(claims({ exp: 4e9 })));
    expect([principal, until]).toEqual([{ kind: 'ci', name: 'a/b' }, 4e12]);
    await issuers.verify(await sign(claims({ sub: 'c' })));
    expect(asked).toEqual(['/.well-known/openid-configuration', '/keys']);
  });

  it('is named by the claim that is wanted, if others are as they must be', async () => {
    const issuers = open({ claim: 'repository', require: { owner: 'org' } });
    const good = await sign(claims({ repository: 'org/os', owner: 'org' }));
    expect((await issuers.verify(good)).principal.name).toBe('org/os');
    const bad = await sign(claims({ repository: 'org/os', owner: 'other' }));
    await expect(issuers.verify(bad)).rejects.toThrow(code('UNAUTHORIZED'));
  });

  it('is refused when anything about it is not right, and none of it is quoted', async () => {
    const other = await generateKeyPair('ES256');
    const secret = new TextEncoder().encode(JSON.stringify(keys));
    const past = Math.floor(Date.now() / 1000) - 100;
    const { sub: _, ...nameless } = claims();
    const { exp: __, ...endless } = claims();
    const bad = [
      await sign(claims(), other.privateKey),
      await sign(claims({ aud: 'another' })),
      await sign(claims({ iss: `${origin}/` })),
      await sign(claims({ iss: 'https://elsewhere.test' })),
      await sign(claims({ exp: past })),
      await sign(claims({ nbf: past + 1000 })),
      await sign(claims({ sub: '*' })),
      await sign(claims({ sub: 'x'.repeat(256) })),
      await sign(claims({ sub: 7 as unknown as string })),
      await sign(nameless),
      await sign(endless),
      await sign(claims(), pair.privateKey, { kid: 'unknown' }),
      await sign(claims({ pad: 'x'.repeat(17_000) })),
      new UnsecuredJWT(claims()).encode(),
      // The public key taken for a shared secret.
      await new SignJWT(claims()).setProtectedHeader({ alg: 'HS256', kid: 'one' }).sign(secret),
      'a.b.c',
      'no token',
    ];
    const issuers = open();
    for (const token of bad) {
      const thrown = await issuers.verify(token).catch((error) => error);
      expect(thrown, token.slice(0, 60)).toMatchObject({ code: 'UNAUTHORIZED' });
      for (const part of token.split('.')) {
        if (part.length > 8) expect(JSON.stringify(thrown)).not.toContain(part);
      }
    }
  });
});

describe('the keys of an issuer', () => {
  it('may change at any time', async () => {
    const issuers = open();
    await issuers.verify(await sign(claims()));
    const next = await generateKeyPair('ES256');
    keys = { keys: [{ ...(await exportJWK(next.publicKey)), kid: 'two', alg: 'ES256' }] };
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 40_000 });
    try {
      const fresh = await sign(claims(), next.privateKey, { kid: 'two' });
      expect((await issuers.verify(fresh)).principal.name).toBe('a/b');
      await expect(issuers.verify(await sign(claims()))).rejects.toThrow(code('UNAUTHORIZED'));
    } finally {
      vi.useRealTimers();
    }
  });

  it('that fail are not asked for again at once, however many tokens come', async () => {
    keys = { keys: 'none' };
    const issuers = open();
    for (let i = 0; i < 20; i += 1) {
      await expect(issuers.verify(await sign(claims()))).rejects.toThrow(code('UPSTREAM_FAILED'));
    }
    expect(asked.length).toBeLessThanOrEqual(3);
  });

  it('that are unknown do not make it be asked on end', async () => {
    const issuers = open();
    await issuers.verify(await sign(claims()));
    const strangers = await generateKeyPair('ES256');
    for (let i = 0; i < 20; i += 1) {
      const token = await sign(claims(), strangers.privateKey, { kid: `k${i}` });
      await expect(issuers.verify(token)).rejects.toThrow(code('UNAUTHORIZED'));
    }
    expect(asked.length).toBeLessThanOrEqual(3);
  });

  it.each([
    ['too many', () => ({ keys: Array.from({ length: 65 }, () => ({ kty: 'EC' })) })],
    ['too large', () => ({ keys: [], pad: 'x'.repeat(300_000) })],
  ])('that are %s are refused', async (_what, made) => {
    keys = made();
    await expect(open().verify(await sign(claims()))).rejects.toThrow(code('UPSTREAM_FAILED'));
  });

  it('are not taken from where they could be exchanged on the way', async () => {
    const issuers = open();
    server.removeAllListeners('request');
    server.on('request', (_request, response) =>
      response.end(JSON.stringify({ issuer: origin, jwks_uri: 'http://elsewhere.test/keys' })),
    );
    await expect(issuers.verify(await sign(claims()))).rejects.toThrow(code('UPSTREAM_FAILED'));
  });

  it('are not taken when it describes itself as another', async () => {
    const issuers = open({ issuer: `${origin}/other` });
    const token = await sign(claims({ iss: `${origin}/other` }));
    await expect(issuers.verify(token)).rejects.toThrow(code('UPSTREAM_FAILED'));
  });
});
