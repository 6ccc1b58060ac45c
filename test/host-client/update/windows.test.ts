import { describe, expect, it } from 'vitest';
import { isOpen, requireOpen } from '../../../host-client/update/windows.ts';

const noon = new Date('2026-11-23T12:00:00');

describe('windows of the configuration', () => {
  it('are open when they are not named', () => {
    expect(isOpen(undefined, noon)).toBe(true);
    expect(() => requireOpen('a download', undefined, noon)).not.toThrow();
  });

  it('hold a timer back, and say until when', () => {
    expect(isOpen('11:00-13:00', noon)).toBe(true);
    expect(isOpen('22:00-06:00', noon)).toBe(false);
    expect(() => requireOpen('a download', '22:00-06:00', noon)).toThrow(
      expect.objectContaining({
        code: 'OUTSIDE_WINDOW',
        exitStatus: 7,
        hint: expect.stringContaining(new Date('2026-11-23T22:00:00').toLocaleString()),
      }),
    );
  });
});
