import { createHash, generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import {
  fulcioHandler,
  initializeCA,
  initializeCTLog,
  initializeTLog,
  initializeTSA,
  rekorHandler,
  tsaHandler,
} from '@sigstore/mock';
import type { KeylessSigner } from '../../gateway/signing/keyless.ts';
import { signManifest } from '../../gateway/signing/sign-manifest.ts';
import type { ContentStore } from '../../shared/oci/content.ts';

/** The services that keyless signing needs, as one server on loopback. */
export type TestSigstore = {
  readonly url: string;
  /** Content of a `trusted_root.json` that believes them. */
  readonly trustedRoot: object;
  /** A signer as somebody whom an issuer vouches for. */
  readonly signer: (
    subject: string,
    issuer: string,
    without?: 'transparencyLog' | 'timestampAuthority',
  ) => KeylessSigner;
  close(): Promise<void>;
};

/** Starts a certificate authority with its log, a transparency log and a timestamp authority. */
export async function startSigstore(): Promise<TestSigstore> {
  const pair = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const certificateLog = await initializeCTLog(pair());
  const authority = await initializeCA(pair(), certificateLog);
  const timestamps = await initializeTSA(pair());
  // @sigstore/core reads fractions of a second of three digits only, and DER drops their last zeros:
  // one time in ten it could not be read.
  Object.assign(timestamps, {
    getCurrentTime: () => new Date(Math.floor(Date.now() / 1000) * 1000),
  });
  const log = await initializeTLog('https://log.test', pair());
  const handlers = [fulcioHandler(authority), rekorHandler(log), tsaHandler(timestamps)];
  const server = createServer(async (request, response) => {
    const handler = handlers.find(({ path }) => path === request.url);
    const body = await buffer(request);
    if (handler === undefined) return void response.writeHead(404).end();
    // Timestamp queries are binary, and their handler knows how they come.
    const found = await handler.fn(body as unknown as string);
    response.writeHead(found.statusCode, { 'content-type': found.contentType ?? 'text/plain' });
    response.end(
      typeof found.response === 'string'
        ? found.response
        : Buffer.from(found.response.buffer, found.response.byteOffset, found.response.byteLength),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const base64 = (bytes: ArrayBufferView) =>
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
  const validFor = { start: '2020-01-01T00:00:00Z' };
  const subject = { organization: 'test', commonName: 'test' };
  const chain = (...certificates: ArrayBufferView[]) => ({
    ...{ subject, uri: url, validFor },
    certChain: { certificates: certificates.map((one) => ({ rawBytes: base64(one) })) },
  });
  const logOf = (publicKey: Buffer, keyId: Buffer, baseUrl: string) => ({
    ...{ baseUrl, hashAlgorithm: 'SHA2_256', logId: { keyId: keyId.toString('base64') } },
    publicKey: {
      ...{ rawBytes: publicKey.toString('base64'), validFor },
      keyDetails: 'PKIX_ECDSA_P256_SHA_256',
    },
  });
  const idOf = (key: Buffer) => createHash('sha256').update(key).digest();
  const trustedRoot = {
    mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
    tlogs: [logOf(log.publicKey, idOf(log.publicKey), 'https://log.test')],
    ctlogs: [logOf(certificateLog.publicKey, idOf(certificateLog.publicKey), 'https://ct.test')],
    certificateAuthorities: [chain(authority.rootCertificate)],
    timestampAuthorities: [chain(timestamps.intCertificate, timestamps.rootCertificate)],
  };
  const token = (sub: string, iss: string) =>
    ['{"alg":"none"}', JSON.stringify({ sub, iss, aud: 'sigstore' }), 'none']
      .map((part) => Buffer.from(part).toString('base64url'))
      .join('.');
  return {
    ...{ url, trustedRoot },
    signer: (name, issuer, without) => ({
      certificateAuthority: new URL(url),
      ...(without === 'transparencyLog'
        ? {}
        : { transparencyLog: { url: new URL(url), version: 1 as const } }),
      ...(without === 'timestampAuthority' ? {} : { timestampAuthority: new URL(url) }),
      identityToken: async () => token(name, issuer),
      // Entries of the other kind, as this log makes them, do not verify.
      entryType: 'intoto',
    }),
    close: () => new Promise((resolve) => void server.close(() => resolve())),
  };
}

/** Signs a manifest without a key. */
export const signKeyless = (
  store: ContentStore,
  subject: Parameters<typeof signManifest>[1],
  signer: KeylessSigner,
) => signManifest(store, subject, { signer, dockerReference: '' });
