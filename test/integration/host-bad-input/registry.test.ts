import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { isBlob, useOfferedUpdate } from '../../support/offered-update.ts';

const offer = useOfferedUpdate();

describe('a registry that lies', () => {
  it('swaps a blob', async () => {
    offer.changeBlob(offer.layer.digest, (body) => Buffer.from(body).fill('x', 1000, 1010));
    await offer.expectRefusal('DIGEST_INVALID', 4, '--full');
  });

  it('sends a blob that is too long', async () => {
    const more = randomBytes(1000);
    offer.changeBlob(offer.layer.digest, (body) => Buffer.concat([body, more]));
    await offer.expectRefusal('SIZE_INVALID', 4, '--full');
  });

  it('has a blob that is cut off', async () => {
    offer.proxy.handle = ({ request, response, pass }) => {
      if (!isBlob(offer.layer.digest, request.url)) return pass();
      if (request.headers.range !== undefined) return response.writeHead(416).end();
      return pass((answer) => ({ ...answer, body: answer.body.subarray(0, 200_000) }));
    };
    await offer.expectRefusal('SIZE_INVALID', 4, '--full');
  });

  it('keeps no part of what it lied about', async () => {
    expect(await readdir(offer.downloads)).toEqual([]);
  });

  it('swaps a manifest', async () => {
    offer.proxy.handle = ({ request, pass }) => {
      const isTarget = request.method === 'GET' && request.url?.endsWith('/manifests/stable');
      const spoil = (body: Buffer) => Buffer.from(body.toString().replace('"size":', '"size": '));
      return pass((answer) => (isTarget ? { ...answer, body: spoil(answer.body) } : answer));
    };
    await offer.expectRefusal('SIGNATURE_MISSING', 3);
  });

  it.for([
    [401, 'UNAUTHORIZED'],
    [403, 'DENIED'],
    [429, 'TOOMANYREQUESTS'],
    [500, 'UPSTREAM_FAILED'],
  ] as const)('answers %i', async ([status, code]) => {
    offer.proxy.handle = ({ response }) => response.writeHead(status).end();
    await offer.expectRefusal(code, 5);
  });

  it('never answers', async () => {
    offer.proxy.handle = () => undefined;
    await offer.expectRefusal('UPSTREAM_TIMEOUT', 5);
  });

  it('resets every connection', async () => {
    offer.proxy.handle = ({ request }) => request.socket.destroy();
    await offer.expectRefusal('UPSTREAM_UNREACHABLE', 5);
  });

  it('loses a blob', async () => {
    offer.proxy.handle = ({ request, response, pass }) =>
      isBlob(offer.layer.digest, request.url) ? response.writeHead(404).end() : pass();
    await offer.expectRefusal('BLOB_UNKNOWN', 5, '--full');
  });
});
