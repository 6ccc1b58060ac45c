import { describe, expect, it } from 'vitest';
import { SnapgateError } from '../../../shared/errors.ts';
import { Repository } from '../../../shared/registry/repository.ts';
import type { Transport } from '../../../shared/registry/transport.ts';

type Answer = { status: number; headers?: Record<string, string> } | 'lost';

/** A registry that gives these answers, and then that all is well; what was waited for, in seconds. */
function scene(...answers: Answer[]) {
  const waits: number[] = [];
  let asked = 0;
  const transport: Transport = async () => {
    asked += 1;
    const answer = answers.shift() ?? { status: 200 };
    if (answer === 'lost') throw new SnapgateError('UPSTREAM_UNREACHABLE', 'lost');
    return { headers: {}, ...answer, body: (async function* () {})() };
  };
  const repository = new Repository({
    ...{ transport, baseUrl: new URL('http://registry.test'), repository: 'os' },
    pause: async (milliseconds) => void waits.push(milliseconds / 1000),
  });
  return { ask: () => repository.tagDigest('stable'), waits, asked: () => asked };
}

describe('a request to a registry', () => {
  it('is made again after pauses that grow and differ', async () => {
    const { ask, waits, asked } = scene('lost', { status: 503 }, { status: 429 });
    await ask();
    expect(asked()).toBe(4);
    for (const [i, wait] of waits.entries()) {
      expect(wait).toBeGreaterThanOrEqual(0.1 * 2 ** i);
      expect(wait).toBeLessThanOrEqual(0.3 * 2 ** i);
    }
  });

  it('is given up in the end', async () => {
    const { ask, asked } = scene(...Array(9).fill('lost'));
    await expect(ask()).rejects.toMatchObject({ code: 'UPSTREAM_UNREACHABLE' });
    expect(asked()).toBe(4);
  });

  it('waits as long as it is asked to', async () => {
    const { ask, waits } = scene({ status: 429, headers: { 'retry-after': '17' } });
    await ask();
    expect(waits).toEqual([17]);
  });

  it.each([429, 503])(
    'answered by %i says when to come back, if that is not soon',
    async (status) => {
      const { ask, asked } = scene({ status, headers: { 'retry-after': '120' } });
      await expect(ask()).rejects.toMatchObject({ retryAfter: 120, hint: 'Try again in 120 s.' });
      expect(asked()).toBe(1);
    },
  );

  it('takes no web page for an answer', async () => {
    const { ask } = scene({ status: 200, headers: { 'content-type': 'text/html; charset=utf-8' } });
    await expect(ask()).rejects.toMatchObject({ code: 'UPSTREAM_FAILED' });
  });
});
