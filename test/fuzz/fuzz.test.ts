import { describe, expect, it } from 'vitest';
import { fuzz } from './fuzz.ts';
import { TARGETS } from './targets.ts';

/** All together take a minute; more is done by `deploy/run fuzz`. */
const SECONDS = 60 / TARGETS.length;

describe('whatever comes in', () => {
  it.each(TARGETS.map(({ name }) => name))('%s is read or refused', async (name) => {
    const { inputs, failure } = await fuzz({ name, seconds: SECONDS, seed: 20_261_124 });
    expect(failure).toBeUndefined();
    expect(inputs).toBeGreaterThan(0);
  });
});
