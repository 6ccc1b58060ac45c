import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';

/** A stand-in on loopback with the shape of the transit engine's API, and the key `release`. */
export type TransitServer = {
  readonly url: URL;
  readonly privateKey: KeyObject;
  /** What it answers, for tests to change. */
  readonly answers: { type: string; status: number; signWith: KeyObject };
  close(): Promise<void>;
};

/** Starts one whose token is `secret`. */
export async function startTransit(): Promise<TransitServer> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const answers = { type: 'ecdsa-p256', status: 200, signWith: privateKey };
  const server = createServer(async (request, response) => {
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
    if (body.key_version !== 2 || body.marshaling_algorithm !== 'asn1') return send(400, {});
    const signature = sign('sha256', Buffer.from(String(body.input), 'base64'), answers.signWith);
    send(200, { signature: `vault:v2:${signature.toString('base64')}` });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const close = () => new Promise<void>((resolve) => void server.close(() => resolve()));
  return { url, privateKey, answers, close };
}
