import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateKey } from '../../gateway/signing/encrypted-key.ts';
import { createTransport } from '../../gateway/upstream/transport.ts';
import type { Digest } from '../../shared/digest.ts';
import { LAYER_DELTA } from '../../shared/oci/media-types.ts';
import type { DeltaJob, Plan, PlanWay } from '../../shared/plan.ts';
import { parsePolicy } from '../../shared/policy/policy.ts';
import { verifyManifest } from '../../shared/policy/verify-manifest.ts';
import { basicHeader } from '../../shared/registry/authenticator.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { startGatewayProcess, type TestGateway } from '../support/gateway.ts';
import {
  hasRegistry,
  REGISTRY_USER,
  startRegistry,
  type TestRegistry,
} from '../support/registry.ts';
import { putTinyImage, type TinyImage } from '../support/tiny-image.ts';

const AUTHORIZATION = basicHeader(REGISTRY_USER.username, REGISTRY_USER.password);
const { transport, close: closeTransport } = createTransport();

let dir: string;
let registry: TestRegistry;
let gateway: TestGateway;
let repository: Repository;
let old: TinyImage;
let fresh: TinyImage;
const key = generateKey('word');

beforeAll(async () => {
  if (!hasRegistry()) return;
  dir = await mkdtemp(join(tmpdir(), 'snapgate-delta-test-'));
  await writeFile(join(dir, 'signing.key'), key.privatePem);
  await writeFile(join(dir, 'signing.word'), 'word\n');
  await writeFile(join(dir, 'registry.word'), `${REGISTRY_USER.password}\n`);
  registry = await startRegistry({ auth: 'basic' });
  const credentials = {
    username: REGISTRY_USER.username,
    passwordFile: join(dir, 'registry.word'),
  };
  gateway = await startGatewayProcess(registry.url, {
    upstream: { url: registry.url, credentials },
    publicUrl: 'http://registry.test',
    data: join(dir, 'data'),
    deltas: { repositories: ['os/*'] },
    signing: [
      {
        repository: 'os/*',
        key: join(dir, 'signing.key'),
        passwordFile: join(dir, 'signing.word'),
      },
    ],
  });
  repository = openRepository('os/image');
  ({ old, fresh } = await putPair(repository));
});

afterAll(async () => {
  if (!hasRegistry()) return;
  expect(await gateway.stop()).toBe(0);
  await registry.stop();
  await closeTransport();
  await rm(dir, { recursive: true, force: true });
});

function openRepository(name: string): Repository {
  const baseUrl = new URL(gateway.url);
  return new Repository({ transport, baseUrl, repository: name, authorization: AUTHORIZATION });
}

/** Two images of which the second differs little from the first. */
async function putPair(store: Repository) {
  const library = randomBytes(300_000);
  const changed = Buffer.concat([library.subarray(0, 100_000), library.subarray(101_000)]);
  const base = { 'usr/lib/kept.so': randomBytes(50_000) };
  return {
    old: await putTinyImage(store, [base, { 'usr/lib/lib.so': library }], { tag: 'v1' }),
    fresh: await putTinyImage(store, [base, { 'usr/lib/lib.so': changed }], { tag: 'v2' }),
  };
}

async function ask(path: string, body?: object, authorization = AUTHORIZATION): Promise<Response> {
  const headers = authorization === '' ? {} : { authorization };
  const init = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
  const url = new URL(path, `${gateway.url}/v2/os/image/_snapgate/`);
  return fetch(url, { headers, ...init });
}

async function plan(): Promise<Plan> {
  const answer = await ask('plan', { target: 'v2', have: [old.config] });
  expect(answer.status).toBe(200);
  return (await answer.json()) as Plan;
}

const deltaWay = ({ ways }: Plan): PlanWay | undefined =>
  ways.find((way) => way.method === 'delta');

async function finished(location: string): Promise<DeltaJob> {
  for (;;) {
    const answer = await ask(location);
    const job = (await answer.json()) as DeltaJob;
    if (answer.status !== 202) return job;
    await sleep(100);
  }
}

/** The names of the keys that signed a manifest, as a machine would judge it. */
async function signers(digest: Digest, kind: 'image' | 'delta'): Promise<readonly string[]> {
  const policy = parsePolicy(
    JSON.stringify({
      version: 1,
      keys: { gateway: { pem: key.publicPem } },
      rules: [{ repository: 'registry.test/os/*', images: { signers: ['gateway'] } }],
    }),
  );
  const name = 'registry.test/os/image';
  const examination = await verifyManifest({
    ...{ reader: repository, repository: name, digest, kind, policy, now: new Date() },
  });
  return examination.signers;
}

describe('a gateway in front of a registry', () => {
  it('plans, makes a delta when asked, and signs image and delta', async (ctx) => {
    ctx.skip(!hasRegistry(), 'docker-registry is not installed');
    const before = await plan();
    expect(deltaWay(before)?.state).toBe('absent');
    expect(await signers(fresh.stored.digest, 'image')).toEqual(['gateway']);

    const wanted = { source: old.config, target: fresh.stored.digest };
    const asked = await Promise.all([ask('deltas', wanted), ask('deltas', wanted)]);
    expect(asked.map((answer) => answer.status)).toEqual([202, 202]);
    const locations = asked.map((answer) => answer.headers.get('location') ?? '');
    expect(locations[0]).toBe(locations[1]);
    const job = await finished(locations[0] ?? '');
    expect(job).toMatchObject({ state: 'done' });

    const after = deltaWay(await plan());
    expect(after).toMatchObject({ state: 'ready', artifact: job.artifact });
    expect(after?.bytes).toBeLessThan(before.target.fullBytes / 4);
    const { digest } = job.artifact as { digest: Digest };
    expect(await signers(digest, 'delta')).toEqual(['gateway']);
    expect(await readdir(join(dir, 'data', 'work'))).toEqual([]);
  });

  it('makes a delta in the format of its own for those who read it', async (ctx) => {
    ctx.skip(!hasRegistry(), 'docker-registry is not installed');
    const wanted = { source: old.config, target: fresh.stored.digest, format: LAYER_DELTA };
    // A delta in one format is not one in the other.
    const answer = await ask('deltas', wanted);
    expect(answer.status).toBe(202);
    const job = await finished(answer.headers.get('location') ?? '');
    expect(job).toMatchObject({ state: 'done' });
    const request = { target: 'v2', have: [old.config], formats: [LAYER_DELTA] };
    const planned = (await (await ask('plan', request)).json()) as Plan;
    const { artifact } = job;
    expect(deltaWay(planned)).toMatchObject({ state: 'ready', format: LAYER_DELTA, artifact });
    expect(deltaWay(await plan())?.artifact?.digest).not.toBe(artifact?.digest);
  });

  it('counts what it did', async (ctx) => {
    ctx.skip(!hasRegistry(), 'docker-registry is not installed');
    const text = await (await fetch(`${gateway.url}/metrics`)).text();
    expect(text).toContain('snapgate_delta_jobs_finished_total{outcome="made"} 2');
    expect(text).toContain('snapgate_signatures_total{kind="image",outcome="signed"} 1');
    expect(text).toContain('snapgate_signatures_total{kind="delta",outcome="signed"} 2');
    expect(text).toMatch(
      /snapgate_requests_total\{route="snapgate",method="POST",status="202"\} 3/,
    );
    expect(JSON.stringify(gateway.log)).not.toContain(AUTHORIZATION.slice('Basic '.length));
  });

  it('says no more to strangers than the registry does', async (ctx) => {
    ctx.skip(!hasRegistry(), 'docker-registry is not installed');
    const wanted = { source: old.config, target: fresh.stored.digest };
    for (const answer of [
      await ask('plan', { target: 'v2', have: [] }, ''),
      await ask('deltas', wanted, ''),
    ]) {
      expect(answer.status).toBe(401);
      expect(answer.headers.get('www-authenticate')).toContain('Basic realm="test"');
    }
  });

  it('makes no deltas where none are wanted', async (ctx) => {
    ctx.skip(!hasRegistry(), 'docker-registry is not installed');
    const pair = await putPair(openRepository('apps/image'));
    const wanted = { source: pair.old.config, target: pair.fresh.stored.digest };
    const answer = await ask('/v2/apps/image/_snapgate/deltas', wanted);
    expect(answer.status).toBe(422);
    const request = { target: 'v2', have: [pair.old.config] };
    const planned = await ask('/v2/apps/image/_snapgate/plan', request);
    expect(deltaWay((await planned.json()) as Plan)?.state).toBe('refused');
  });

  it('says why a delta is not made', async (ctx) => {
    ctx.skip(!hasRegistry(), 'docker-registry is not installed');
    const noise = { 'usr/lib/lib.so': randomBytes(300_000) };
    const other = await putTinyImage(repository, [noise], { tag: 'v3' });
    const wanted = { source: old.config, target: other.stored.digest };
    const location = (await ask('deltas', wanted)).headers.get('location') ?? '';
    const job = await finished(location);
    expect(job).toMatchObject({ state: 'failed', error: { code: 'DELTA_REFUSED' } });
    expect((await ask('deltas', wanted)).status).toBe(200);
  });
});
