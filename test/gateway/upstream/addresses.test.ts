import { describe, expect, it } from 'vitest';
import { Addresses } from '../../../gateway/upstream/addresses.ts';
import { answerHeaders, forForeign, requestHeaders } from '../../../gateway/upstream/headers.ts';
import { SealedUrls } from '../../../gateway/upstream/sealed-url.ts';

const BASE = new URL('http://registry:5000');
const addresses = new Addresses(BASE, new SealedUrls());
const context = { repository: 'os/a', origin: 'https://gateway.example' };
const locationOf = (location: string) => addresses.rewrite({ location }, context).location;

describe('addresses of the registry', () => {
  it.each([
    ['/v2/os/a/blobs/uploads/u?_state=1', '/v2/os/a/blobs/uploads/u?_state=1'],
    ['http://registry:5000/v2/os/a/blobs/uploads/u?_s=1', '/v2/os/a/blobs/uploads/u?_s=1'],
    ['https://public.example/v2/os/a/blobs/uploads/u', '/v2/os/a/blobs/uploads/u'],
    ['http://registry:5000/v2/os/b/blobs/sha256:x', '/v2/os/b/blobs/sha256:x'],
    ['javascript:alert(1)', undefined],
    ['http://[', undefined],
  ])('%s leads through the gateway', (location, wanted) => {
    expect(locationOf(location)).toBe(wanted);
  });

  it.each(['http://registry:5000/uploads/u?x=1', 'https://store.example/u?x=1'])(
    'outside the API such as %s are sealed and opened again',
    (location) => {
      const sealed = locationOf(location) as string;
      expect(sealed).toMatch(/^\/v2\/os\/a\/blobs\/uploads\/~snapgate\.[A-Za-z0-9_.-]+\?x=1$/);
      const session = sealed.slice('/v2/os/a/blobs/uploads/'.length, -'?x=1'.length);
      expect(addresses.uploadUrl('os/a', session, '?x=1&y=2')?.href).toBe(`${location}&y=2`);
      expect(addresses.uploadUrl('os/b', session, '')).toBeUndefined();
      expect(addresses.tokenUrl(session.slice('~snapgate.'.length), '')).toBeUndefined();
      const other = new Addresses(BASE, new SealedUrls());
      expect(other.uploadUrl('os/a', session, '')).toBeUndefined();
    },
  );

  it('in Link headers lose their origin', () => {
    const link = '<http://registry:5000/v2/os/a/tags/list?n=1&last=x>; rel="next"';
    expect(addresses.rewrite({ link }, context).link).toBe(
      '</v2/os/a/tags/list?n=1&last=x>; rel="next"',
    );
  });

  it('of token services are the gateway, where the registry is one itself', () => {
    const challenges = [
      'Bearer realm="http://registry:5000/token?account=a",service="s",scope="r"',
      'Basic realm="http here"',
      'Bearer realm="https://auth.example/token",service="s"',
    ];
    const rewritten = addresses.rewrite({ 'www-authenticate': challenges }, context);
    const [own = '', ...others] = rewritten['www-authenticate'] as string[];
    expect(others).toEqual(challenges.slice(1));
    const found =
      /^Bearer realm="https:\/\/gateway\.example\/_snapgate\/token\/([^?"]*)\?account=a",/;
    const sealed = found.exec(own)?.[1] ?? '';
    expect(addresses.tokenUrl(sealed, '?x')?.href).toBe('http://registry:5000/token?x');
  });
});

describe('headers', () => {
  const hops = {
    ...{ connection: 'x-once, close', 'x-once': '1', 'keep-alive': '1', te: 'trailers' },
    ...{ 'transfer-encoding': 'chunked', upgrade: 'x', trailer: 'x', 'proxy-authorization': 'x' },
  };

  it('of one connection stay there', () => {
    expect(requestHeaders({ ...hops, accept: 'a' })).toEqual({ accept: 'a' });
    expect(answerHeaders({ ...hops, etag: 'e' })).toEqual({ etag: 'e' });
  });

  it('that name the gateway do not reach the registry', () => {
    const sent = { host: 'a', 'x-forwarded-host': 'b', forwarded: 'c', cookie: 'd', expect: 'e' };
    expect(requestHeaders({ ...sent, authorization: 'Basic x' })).toEqual({
      authorization: 'Basic x',
    });
  });

  it('with credentials do not go elsewhere', () => {
    expect(forForeign({ authorization: 'Basic x', range: 'bytes=0-' })).toEqual({
      range: 'bytes=0-',
    });
  });

  it('of the origin of the registry do not come to clients', () => {
    const said = {
      'strict-transport-security': 'max-age=1',
      'set-cookie': ['a=b'],
      'alt-svc': 'h3',
    };
    expect(answerHeaders({ ...said, 'docker-content-digest': 'd' })).toEqual({
      'docker-content-digest': 'd',
    });
  });
});
