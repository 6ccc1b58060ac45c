import { describe, expect, it } from 'vitest';
import {
  downloadSeconds,
  expectedRate,
  nextLineRate,
  secondsOf,
  totalSeconds,
} from '../../../host-client/update/estimate.ts';
import type { Way } from '../../../host-client/update/ways.ts';
import { sha256 } from '../../../shared/digest.ts';

const blob = (size: number, annotations: Record<string, string> = {}) => ({
  ...{ mediaType: 'a/b', digest: sha256(String(size)), size, annotations },
});

describe('what a way takes', () => {
  it('is its bytes at the rate of the line, and building', () => {
    const layer = { diffId: sha256('layer'), blob: blob(60e6) };
    const fetch = blob(4e6, { 'dev.snapgate.delta.tar-bytes': '270000000' });
    const way: Way = {
      method: 'delta',
      layers: [
        { ...layer, kind: 'delta', fetch },
        { ...layer, kind: 'full', fetch: blob(30e6) },
        { ...layer, kind: 'reused' },
      ],
      ...{ fetch: [], bytes: 34e6 },
      bounds: {
        ...{ wireBytes: 1, temporaryBytes: 1, installedBytes: 1, windowBytes: 1 },
        encodeSeconds: 20,
      },
    };
    const seconds = secondsOf(way, 1e6);
    expect(seconds).toEqual({ make: 0, download: 34, build: 32 });
    expect(totalSeconds(seconds)).toBe(66);
    expect(totalSeconds(secondsOf(way, undefined))).toBeNull();
  });

  it('counts with the slower of what was measured and what is allowed', () => {
    expect(expectedRate(2000, 1000)).toBe(1000);
    expect(expectedRate(500, 1000)).toBe(500);
    expect(expectedRate(undefined, 1000)).toBe(1000);
    expect(expectedRate(undefined, undefined)).toBeUndefined();
    expect(downloadSeconds(1e6, undefined)).toBeNull();
  });
});

describe('the rate of the line', () => {
  it('follows the last downloads, and no small ones', () => {
    expect(nextLineRate(undefined, 1e6, 10)).toBe(1e5);
    expect(nextLineRate(1e5, 3e6, 10)).toBe(2e5);
    expect(nextLineRate(1e5, 100, 10)).toBe(1e5);
    expect(nextLineRate(undefined, 1e6, 0)).toBeUndefined();
  });
});
