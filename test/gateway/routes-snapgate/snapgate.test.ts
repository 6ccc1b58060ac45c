import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Hono } from 'hono';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ClientLimits } from '../../../gateway/access/client-limits.ts';
import { DeltaJobs, type MakeDelta } from '../../../gateway/jobs/delta-jobs.ts';
import { EncoderReports } from '../../../gateway/jobs/encoder-reports.ts';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { type DeltaKey, Planner } from '../../../gateway/plan/planner.ts';
import { RepositoryFacts } from '../../../gateway/plan/repository-facts.ts';
import type { ClientAccess } from '../../../gateway/routes/api-request.ts';
import { errorAnswer } from '../../../gateway/routes/error-answer.ts';
import { snapgateRoutes } from '../../../gateway/routes/snapgate.ts';
import { Catalogue } from '../../../gateway/store/catalogue.ts';
import { formatName } from '../../../shared/delta/formats.ts';
import { sha256 } from '../../../shared/digest.ts';
import { SnapgateError, toSnapgateError } from '../../../shared/errors.ts';
import { LAYER_DELTA, TAR_DIFF } from '../../../shared/oci/media-types.ts';
import type { DeltaJob, Plan } from '../../../shared/plan.ts';
import { putTinyDelta } from '../../support/tiny-delta.ts';
import { putTinyImage, type TinyImage } from '../../support/tiny-image.ts';

const MAKER = { set: 1, memory: 1024, lzma: '5.8.4', zstd: '1.5.7' };

let dir: string;
const stores = new Map<string, LayoutStore>();
let catalogue: Catalogue;
let jobs: DeltaJobs;
let reports: EncoderReports;
let app: Hono;
let source: TinyImage;
let target: TinyImage;
let release: () => void;
let made = 0;
let failure: SnapgateError | undefined;

/** The registry: who has the word may read, `secret/image` needs another word. */
const access: ClientAccess = {
  async open(request, repository, tagOrDigest) {
    const word = repository === 'secret/image' ? 'Bearer more' : 'Bearer word';
    const given = request.headers.get('authorization');
    if (given !== word && given !== 'Bearer more') {
      const headers = { 'WWW-Authenticate': 'Bearer realm="https://auth.example/token"' };
      return { refusal: new Response('{"errors":[]}', { status: 401, headers }) };
    }
    const reader = stores.get(repository);
    if (reader === undefined) throw new SnapgateError('NAME_UNKNOWN', 'no such repository');
    if (tagOrDigest !== undefined) await reader.getManifest(tagOrDigest);
    return { reader };
  },
};

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-routes-'));
  for (const name of ['os/image', 'secret/image']) {
    stores.set(name, await LayoutStore.create(join(dir, name)));
  }
  const store = stores.get('os/image') as LayoutStore;
  source = await putTinyImage(store, [{ n: 'n' }], { tag: 'v1' });
  target = await putTinyImage(store, [{ n: 'm' }], { tag: 'v2' });
  catalogue = Catalogue.open(':memory:');
  const facts = new RepositoryFacts(catalogue);
  made = 0;
  failure = undefined;
  const gate = Promise.withResolvers<void>();
  release = gate.resolve;
  const make: MakeDelta = async () => {
    made += 1;
    await gate.promise;
    if (failure !== undefined) throw failure;
    const delta = await putTinyDelta(store, source, target);
    return { digest: delta.digest, size: delta.bytes.length };
  };
  jobs = new DeltaJobs({ make, catalogue, concurrency: 1, maxWaiting: 1 });
  const deltaState = (key: DeltaKey, bytes: number) => jobs.state(key, bytes);
  reports = new EncoderReports({ reporters: 2 });
  const isSuspected = (name: string, format: string) => reports.isSuspected(name, format);
  const planner = new Planner({ facts, maker: MAKER, deltaState, isSuspected });
  app = new Hono();
  app.route(
    '/',
    snapgateRoutes({
      clientAccess: access,
      originOf: () => 'http://gateway.test',
      facts,
      planner,
      jobs,
      maker: MAKER,
      reports,
      reportLimits: new ClientLimits({ requestsPerSecond: 0, burst: 4 }),
    }),
  );
  app.onError((thrown, c) => errorAnswer(c, toSnapgateError(thrown)));
});
afterEach(async () => {
  release();
  await jobs.close();
  catalogue.close();
  await rm(dir, { recursive: true, force: true });
});

function ask(path: string, body?: unknown, word = 'Bearer word') {
  const method = body === undefined ? 'GET' : 'POST';
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return app.request(path.startsWith('/') ? path : `/v2/os/image/_snapgate/${path}`, {
    ...{ method, headers: { authorization: word } },
    ...(body === undefined ? {} : { body: text }),
  });
}

async function codeOf(response: Response): Promise<[number, string]> {
  const body = (await response.json()) as { errors: { code: string }[] };
  return [response.status, body.errors[0]?.code ?? ''];
}

const wanted = () => ({ source: source.config, target: target.stored.digest });
/** The answer about a job once it has ended. */
const ended = async (location: string): Promise<Response> => {
  for (;;) {
    const answer = await ask(location);
    if (answer.status !== 202) return answer;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

describe('the gateway routes', () => {
  it('lead from a plan to a made delta and back to the plan', async () => {
    const have = [source.config];
    const before = (await (await ask('plan', { target: 'v2', have })).json()) as Plan;
    expect(before.ways.map((way) => way.state)).toEqual(['ready', 'absent']);
    const asked = await Promise.all(Array.from({ length: 20 }, () => ask('deltas', wanted())));
    expect(asked.map((r) => r.status)).toEqual(new Array(20).fill(202));
    const [first] = asked;
    const location = first?.headers.get('location') ?? '';
    expect(new Set(asked.map((r) => r.headers.get('location')))).toEqual(new Set([location]));
    expect(Number(first?.headers.get('retry-after'))).toBeGreaterThan(0);
    const during = (await (await ask('plan', { target: 'v2', have })).json()) as Plan;
    expect(during.ways.at(-1)?.state).toBe('computing');
    expect((await ask(location)).status).toBe(202);
    release();
    const done = await ended(location);
    expect([done.status, made]).toEqual([200, 1]);
    const job = (await done.json()) as DeltaJob;
    const after = (await (await ask('plan', { target: 'v2', have })).json()) as Plan;
    const way = after.ways.find((one) => one.method === 'delta');
    expect(way).toMatchObject({ state: 'ready', artifact: job.artifact });
    const again = await ask('deltas', { source: source.stored.digest, target: wanted().target });
    expect(again.status).toBe(200);
    expect(((await again.json()) as DeltaJob).artifact).toEqual(job.artifact);
    expect(made).toBe(1);
  });

  it('say why a delta failed', async () => {
    failure = new SnapgateError('DELTA_REFUSED', 'the images have nothing in common');
    const location = (await ask('deltas', wanted())).headers.get('location') ?? '';
    release();
    const answer = await ended(location);
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({
      state: 'failed',
      error: { code: 'DELTA_REFUSED', message: 'the images have nothing in common' },
    });
    const plan = (await (
      await ask('plan', { target: 'v2', have: [source.config] })
    ).json()) as Plan;
    expect(plan.ways.at(-1)).toMatchObject({ state: 'refused' });
  });

  it('pass on what the registry says to those who may not read', async () => {
    const location = (await ask('deltas', wanted())).headers.get('location') ?? '';
    for (const answer of [
      await ask('plan', { target: 'v2', have: [] }, 'none'),
      await ask('deltas', wanted(), 'none'),
      await ask(location, undefined, 'none'),
    ]) {
      expect(answer.status).toBe(401);
      expect(answer.headers.get('www-authenticate')).toContain('auth.example');
    }
  });

  it('make no delta from a repository that the client may not read', async () => {
    const secret = stores.get('secret/image') as LayoutStore;
    const hidden = await putTinyImage(secret, [{ s: 's' }], { tag: 'v1' });
    const body = { ...wanted(), source: hidden.config, sourceRepository: 'secret/image' };
    expect((await ask('deltas', body)).status).toBe(401);
    expect((await ask('deltas', body, 'Bearer more')).status).toBe(202);
  });

  it('refuse more than the queue holds and say when to come back', async () => {
    const store = stores.get('os/image') as LayoutStore;
    const statuses: number[] = [];
    for (const n of ['1', '2', '3']) {
      const { stored } = await putTinyImage(store, [{ n }], { tag: `n${n}` });
      const answer = await ask('deltas', { source: source.config, target: stored.digest });
      statuses.push(answer.status);
      if (answer.status === 429) expect(answer.headers.get('retry-after')).toBe('30');
    }
    expect(statuses).toEqual([202, 202, 429]);
  });

  it.each([
    ['no JSON', 'plan', '{', 'USAGE'],
    ['no target', 'plan', { have: [] }, 'USAGE'],
    ['no digest', 'plan', { target: 'v2', have: ['sha256:1'] }, 'USAGE'],
    ['a bad tag', 'plan', { target: '../v2', have: [] }, 'REFERENCE_INVALID'],
    ['too much', 'plan', { target: 'v2', have: [], x: 'x'.repeat(70_000) }, 'LIMIT_EXCEEDED'],
    ['an unknown tag', 'plan', { target: 'v9', have: [] }, 'MANIFEST_UNKNOWN'],
    ['a bad name', '/v2/UPPER/_snapgate/plan', { target: 'v2', have: [] }, 'NAME_INVALID'],
    ['an unknown job', 'deltas/00', undefined, 'JOB_UNKNOWN'],
  ])('answer %s with a clear error', async (_what, path, body, code) => {
    const answer = await ask(path, body);
    expect((await codeOf(answer))[1]).toBe(code);
    expect(answer.status).toBeGreaterThanOrEqual(400);
  });

  it('answer an unknown source or format with a clear error', async () => {
    const unknown = { ...wanted(), source: sha256('nothing') };
    expect(await codeOf(await ask('deltas', unknown))).toEqual([404, 'MANIFEST_UNKNOWN']);
    const format = { ...wanted(), format: 'x/y' };
    expect(await codeOf(await ask('deltas', format))).toEqual([422, 'DELTA_REFUSED']);
  });
});

describe('reports of encoders', () => {
  const recompress = { set: 1, memory: 128, lzma: '5.8.4', zstd: '1.5.7' };
  const format = formatName({ kind: 'snapgate', recompress });
  const formats = [format, LAYER_DELTA, TAR_DIFF];

  async function publishDelta() {
    const store = stores.get('os/image') as LayoutStore;
    const own = { kind: 'snapgate', recompress } as const;
    const delta = await putTinyDelta(store, source, target, undefined, own);
    return { target: target.stored.digest, artifact: delta.digest, format };
  }
  const offered = async (wanted = formats) => {
    const request = { target: 'v2', have: [source.config], formats: wanted };
    const { ways } = (await (await ask('plan', request)).json()) as Plan;
    return ways.filter((way) => way.method === 'delta').map((way) => [way.state, way.format]);
  };
  const reportFrom = (address: string, body: unknown, word = 'Bearer word') =>
    app.request(
      '/v2/os/image/_snapgate/encoder-reports',
      { method: 'POST', headers: { authorization: word }, body: JSON.stringify(body) },
      { incoming: { socket: { remoteAddress: address } } },
    );

  it('stop offers to the class when several clients make them, and no other offers', async () => {
    const report = await publishDelta();
    expect(await offered()).toContainEqual(['ready', format]);
    for (const address of ['192.0.2.1', '192.0.2.1', '::ffff:192.0.2.1']) {
      expect((await reportFrom(address, report)).status).toBe(202);
    }
    expect(await offered()).toContainEqual(['ready', format]);
    expect((await reportFrom('192.0.2.2', report)).status).toBe(202);
    expect(await offered()).toEqual([['absent', LAYER_DELTA]]);
    const refused = await ask('deltas', { ...wanted(), format });
    expect(await codeOf(refused)).toEqual([422, 'DELTA_REFUSED']);
    const larger = formatName({ kind: 'snapgate', recompress: { ...recompress, memory: 1024 } });
    expect(await offered([larger])).toContainEqual(['ready', format]);
  });

  it('are refused about what is no delta for the class, or unreadable for the client', async () => {
    const report = await publishDelta();
    const other = formatName({ kind: 'snapgate', recompress: { ...recompress, zstd: '1.5.6' } });
    for (const wrong of [
      { ...report, artifact: sha256('none') },
      { ...report, format: LAYER_DELTA },
      { ...report, format: other },
    ]) {
      expect(await codeOf(await reportFrom('192.0.2.3', wrong))).toEqual([400, 'USAGE']);
    }
    expect((await reportFrom('192.0.2.4', report, 'none')).status).toBe(401);
    const long = { ...report, format: `${format}${';'.repeat(300)}` };
    expect(await codeOf(await reportFrom('192.0.2.4', long))).toEqual([400, 'USAGE']);
  });

  it('are limited for each client', async () => {
    const report = await publishDelta();
    const statuses: number[] = [];
    for (let i = 0; i < 5; i += 1) statuses.push((await reportFrom('2001:db8::1', report)).status);
    statuses.push((await reportFrom('2001:db8::2', report)).status);
    expect(statuses).toEqual([202, 202, 202, 202, 429, 429]);
    expect((await reportFrom('2001:db8:0:1::1', report)).status).toBe(202);
  });
});
