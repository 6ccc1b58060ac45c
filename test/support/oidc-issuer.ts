import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';

/** An issuer of OpenID Connect tokens on loopback. */
export type TestIssuer = {
  /** As it stands in its tokens. */
  readonly url: string;
  /** Vouches for somebody, for an hour. */
  readonly token: (claims: JWTPayload, audience: string) => Promise<string>;
  close(): Promise<void>;
};

export async function startIssuer(): Promise<TestIssuer> {
  const { publicKey, privateKey } = await generateKeyPair('RS256');
  const key = { ...(await exportJWK(publicKey)), kid: 'k', alg: 'RS256', use: 'sig' };
  const server = createServer((request, response) => {
    const about = {
      ...{ issuer: url, jwks_uri: `${url}/keys`, response_types_supported: ['id_token'] },
      ...{ subject_types_supported: ['public'], authorization_endpoint: `${url}/authorize` },
      ...{ token_endpoint: `${url}/token`, id_token_signing_alg_values_supported: ['RS256'] },
    };
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(request.url === '/keys' ? { keys: [key] } : about));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const token = (claims: JWTPayload, audience: string) =>
    new SignJWT(claims)
      .setProtectedHeader({ alg: 'RS256', kid: 'k' })
      .setIssuer(url)
      .setAudience(audience)
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(privateKey);
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url, token, close };
}
