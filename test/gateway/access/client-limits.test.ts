import { describe, expect, it } from 'vitest';
import { ClientLimits } from '../../../gateway/access/client-limits.ts';

describe('limits by client', () => {
  let now = 0;
  const limits = () => new ClientLimits({ requestsPerSecond: 2, burst: 3 }, () => now);
  const tooMany = expect.objectContaining({ code: 'TOOMANYREQUESTS' });

  it('let a burst through, and then as many as are earned', () => {
    const one = limits();
    for (let i = 0; i < 3; i += 1) one.take('192.0.2.1');
    expect(() => one.take('192.0.2.1')).toThrow(tooMany);
    now += 500;
    one.take('192.0.2.1');
    expect(() => one.take('192.0.2.1')).toThrow(tooMany);
    now += 3_600_000;
    for (let i = 0; i < 3; i += 1) one.take('192.0.2.1');
    expect(() => one.take('192.0.2.1')).toThrow(tooMany);
  });

  it('count an address in any writing, and a network of IPv6, as one client', () => {
    for (const [a, b, isOne] of [
      ['192.0.2.1', '::ffff:192.0.2.1', true],
      ['2001:db8::1', '2001:db8:0:0:ffff::2', true],
      ['2001:db8::1', '2001:db8:0:1::1', false],
      ['192.0.2.1', '192.0.2.2', false],
    ] as const) {
      const one = limits();
      for (let i = 0; i < 3; i += 1) one.take(a);
      if (isOne) expect(() => one.take(b), `${a} ${b}`).toThrow(tooMany);
      else one.take(b);
    }
  });
});
