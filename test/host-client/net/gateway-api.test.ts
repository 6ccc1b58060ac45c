import { describe, expect, it } from 'vitest';
import { gatewayApi } from '../../../host-client/net/gateway-api.ts';
import { sha256 } from '../../../shared/digest.ts';
import { Repository } from '../../../shared/registry/repository.ts';
import type { HttpRequest } from '../../../shared/registry/transport.ts';

type Reply = {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
};

/** A gateway that gives one reply after the other, and what it was asked. */
function gateway(...replies: Reply[]) {
  const asked: HttpRequest[] = [];
  const repository = new Repository({
    baseUrl: new URL('http://gateway.test'),
    repository: 'os/image',
    pause: async () => undefined,
    async transport(request) {
      asked.push(request);
      const { status, headers = {}, body = '' } = replies.shift() ?? { status: 500 };
      const bytes = async function* () {
        yield Buffer.from(body);
      };
      return { status, headers, body: bytes() };
    },
  });
  return { api: gatewayApi(repository), asked };
}

const TARGET = sha256('target');
const PLAN = {
  target: { manifest: TARGET, config: sha256('config'), platform: 'linux/amd64', fullBytes: 5 },
  ways: [{ method: 'full', state: 'ready', bytes: 5 }],
};
const REQUEST = { target: TARGET, have: [] };

describe("the gateway's own API", () => {
  it('is asked for a plan, again after it was busy', async () => {
    const { api, asked } = gateway({ status: 503 }, { status: 200, body: JSON.stringify(PLAN) });
    expect(await api.plan(REQUEST)).toEqual(PLAN);
    expect(asked.map(({ method, url }) => `${method} ${url.pathname}`)).toEqual([
      'POST /v2/os/image/_snapgate/plan',
      'POST /v2/os/image/_snapgate/plan',
    ]);
    expect(JSON.parse(String(asked[0]?.body))).toEqual(REQUEST);
  });

  it('is missed by a plain registry', async () => {
    const { api } = gateway({ status: 404 });
    expect(await api.plan(REQUEST)).toBeUndefined();
  });

  it.for([
    ['no JSON', '<html>Log in to the hotel</html>'],
    ['a digest that is none', JSON.stringify({ ...PLAN, target: { ...PLAN.target, config: 'x' } })],
    ['a negative size', JSON.stringify({ ...PLAN, ways: [{ ...PLAN.ways[0], bytes: -1 }] })],
    ['no ways', JSON.stringify({ target: PLAN.target })],
  ] as const)('is not believed when it answers %s', async ([, body]) => {
    const { api } = gateway({ status: 200, body });
    await expect(api.plan(REQUEST)).rejects.toMatchObject({ code: 'UPSTREAM_FAILED' });
  });

  it('is not read without end', async () => {
    const { api } = gateway({ status: 200, body: ' '.repeat(9_000_000) });
    await expect(api.plan(REQUEST)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });

  it('tells how far a delta is, and when to ask again', async () => {
    const job = { id: 'ab12', state: 'running', progress: 0.5 };
    const running = { status: 202, headers: { 'retry-after': '7' }, body: JSON.stringify(job) };
    const artifact = { digest: sha256('delta'), size: 9 };
    const done = { status: 200, body: JSON.stringify({ ...job, state: 'done', artifact }) };
    const { api, asked } = gateway(running, done);
    const first = await api.requestDelta({ source: sha256('source'), target: TARGET });
    expect(first).toEqual({ job, retryAfter: 7 });
    expect((await api.deltaJob('ab12')).job.artifact).toEqual(artifact);
    expect(asked[1]?.url.pathname).toBe('/v2/os/image/_snapgate/deltas/ab12');
  });

  it('cannot be led elsewhere by the name of a job', async () => {
    const { api, asked } = gateway({ status: 404 });
    await expect(api.deltaJob('../../../v2/other/x')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
    expect(asked[0]?.url.pathname).toMatch(/^\/v2\/os\/image\/_snapgate\/deltas\/[^/]+$/);
  });
});
