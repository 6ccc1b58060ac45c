import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DeltaJobs, type DeltaJobsOptions } from '../../../gateway/jobs/delta-jobs.ts';
import { Catalogue } from '../../../gateway/store/catalogue.ts';
import { sha256 } from '../../../shared/digest.ts';
import { SnapgateError } from '../../../shared/errors.ts';

let catalogue: Catalogue;
beforeEach(() => {
  catalogue = Catalogue.open(':memory:');
});
afterEach(() => catalogue.close());

const MADE = { digest: sha256('artifact'), size: 10 };

function request(n: number) {
  const repository = 'os/image';
  return {
    ...{ repository, sourceRepository: repository, format: 'f', target: sha256(`target ${n}`) },
    ...{ sourceConfig: sha256('source'), sourceManifest: sha256('manifest') },
    bytes: 10e6,
  };
}

/** Jobs whose makers wait until they are told how to end. */
function controlled(options: Partial<DeltaJobsOptions> = {}) {
  const calls: { end(result?: unknown): void; progress(fraction: number): void }[] = [];
  const jobs = new DeltaJobs({
    ...{ catalogue, concurrency: 2, maxWaiting: 2 },
    make: (_request, { signal, onProgress }) =>
      new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
        calls.push({
          end: (error) => (error === undefined ? resolve(MADE) : reject(error)),
          progress: onProgress,
        });
      }),
    ...options,
  });
  return { jobs, calls };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('delta jobs', () => {
  it('make a delta once, however many ask for it', async () => {
    const { jobs, calls } = controlled();
    const ids = new Set(Array.from({ length: 20 }, () => jobs.submit(request(1)).id));
    await settle();
    expect(ids.size).toBe(1);
    expect(calls).toHaveLength(1);
    expect(jobs.state(request(1), 10e6)).toMatchObject({ state: 'computing' });
    const [id = ''] = ids;
    calls[0]?.progress(0.5);
    expect(jobs.find('os/image', id).job).toEqual({ id, state: 'running', progress: 0.5 });
    calls[0]?.end();
    await settle();
    expect(jobs.find('os/image', id).job).toMatchObject({ state: 'done', artifact: MADE });
    expect(jobs.state(request(1), 10e6)).toMatchObject({ state: 'absent' });
  });

  it('run a bounded number at once and refuse more than may wait', async () => {
    const seen: string[] = [];
    const onQueue = (waiting: number, running: number) => seen.push(`${waiting}+${running}`);
    const { jobs, calls } = controlled({ observer: { onQueue } });
    for (const n of [1, 2, 3, 4]) jobs.submit(request(n));
    await settle();
    expect(calls).toHaveLength(2);
    expect(() => jobs.submit(request(5))).toThrow(
      expect.objectContaining({ code: 'TOOMANYREQUESTS' }),
    );
    expect(jobs.submit(request(4)).state).toBe('waiting');
    calls[0]?.end();
    await settle();
    expect(calls).toHaveLength(3);
    expect(seen.at(-1)).toBe('1+2');
    await jobs.close();
  });

  it('remember for a while why one failed, and then try again', async () => {
    let time = 1000;
    const { jobs, calls } = controlled({ now: () => time, rememberFailureMs: 50 });
    const { id } = jobs.submit(request(1));
    await settle();
    calls[0]?.end(new SnapgateError('DELTA_REFUSED', 'too large', { where: 'os/image' }));
    await settle();
    const failed = { code: 'DELTA_REFUSED', message: 'too large (os/image)' };
    expect(jobs.submit(request(1))).toEqual({ id, state: 'failed', error: failed });
    expect(jobs.state(request(1), 10e6)).toEqual({
      state: 'refused',
      reason: 'DELTA_REFUSED: too large (os/image)',
    });
    time += 60;
    expect(jobs.state(request(1), 10e6)).toMatchObject({ state: 'absent' });
    expect(jobs.submit(request(1)).state).not.toBe('failed');
    await settle();
    expect(calls).toHaveLength(2);
    await jobs.close();
  });

  it('stop when closed and forget what was not finished', async () => {
    const outcomes: string[] = [];
    const onFinished = (_request: unknown, outcome: string) => outcomes.push(outcome);
    const { jobs } = controlled({ observer: { onFinished } });
    const ids = [1, 2, 3].map((n) => jobs.submit(request(n)).id);
    await settle();
    await jobs.close();
    expect(outcomes).toEqual(['CANCELLED', 'CANCELLED', 'CANCELLED']);
    for (const id of ids) {
      expect(() => jobs.find('os/image', id)).toThrow(
        expect.objectContaining({ code: 'JOB_UNKNOWN' }),
      );
    }
    expect(() => jobs.submit(request(9))).toThrow(expect.objectContaining({ code: 'CANCELLED' }));
  });

  it('belong to one repository', async () => {
    const { jobs } = controlled();
    const { id } = jobs.submit(request(1));
    expect(() => jobs.find('other', id)).toThrow(expect.objectContaining({ code: 'JOB_UNKNOWN' }));
    await jobs.close();
  });

  it('say when to ask again', async () => {
    let time = 0;
    const { jobs, calls } = controlled({ now: () => time, concurrency: 1 });
    const running = jobs.submit(request(1));
    const waiting = jobs.submit(request(2));
    await settle();
    expect([jobs.retryAfter(running), jobs.retryAfter(waiting)]).toEqual([2, 5]);
    time = 10_000;
    calls[0]?.progress(0.5);
    expect(jobs.retryAfter(running)).toBe(10);
    await jobs.close();
  });

  it('estimate how long a delta takes, by progress and by those before', async () => {
    let now = 0;
    const { jobs, calls } = controlled({ concurrency: 1, now: () => now });
    const make = (n: number, bytes: number) => {
      const state = jobs.state(request(n), bytes);
      return 'make' in state ? state.make : Number.NaN;
    };
    const first = make(1, 219e6);
    expect(first).toBeCloseTo(267);
    jobs.submit(request(1));
    jobs.submit(request(2));
    await settle();
    const alone = (10e6 * 267) / 219e6;
    expect([make(1, 1), make(2, 1), make(3, 10e6)].map((s) => s / alone)).toEqual([
      expect.closeTo(1),
      expect.closeTo(2),
      expect.closeTo(3),
    ]);
    now = 4000;
    calls[0]?.progress(0.25);
    expect(make(1, 1)).toBeCloseTo(12);
    expect(make(2, 1)).toBeCloseTo(12 + alone);
    now = 100_000;
    calls[0]?.end();
    await settle();
    calls[1]?.end();
    await settle();
    // It has learned that this machine is slower than most.
    expect(make(3, 10e6)).toBeGreaterThan(2 * alone);
  });
});
