import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { ProgressReport } from '../../../host-client/cli/progress.ts';

/** A report that prints to a text, and a clock that a test moves. */
function report(options: { isTTY?: boolean; json?: boolean; columns?: number } = {}) {
  const { isTTY = false, json = false, columns = 100 } = options;
  const err = Object.assign(new PassThrough(), { isTTY, columns });
  const clock = { now: 0 };
  const progress = new ProgressReport({ out: new PassThrough(), err, json }, () => clock.now);
  return { progress, clock, text: () => String(err.read() ?? '') };
}

describe('progress', () => {
  it('is plain lines in a log, not more than one in ten seconds', () => {
    const { progress, clock, text } = report();
    progress.step('download', '2 blobs');
    for (let second = 1; second <= 25; second += 1) {
      clock.now = second * 1000;
      progress.progress(second * 1_000_000, 50_000_000);
    }
    progress.end();
    expect(text().split('\n')).toEqual([
      'downloading 2 blobs',
      'downloading 10.0 MB of 50.0 MB (20%), 1.0 MB/s, 40 s left',
      'downloading 20.0 MB of 50.0 MB (40%), 1.0 MB/s, 30 s left',
      '',
    ]);
  });

  it('is a bar on a terminal, which goes when it ends', () => {
    const { progress, clock, text } = report({ isTTY: true });
    progress.step('build');
    clock.now = 1000;
    progress.progress(1_000_000, 4_000_000);
    expect(text()).toBe('building\n\rbuilding [######..................] 1.0 MB of 4.0 MB (25%)');
    clock.now = 1050;
    progress.progress(1_100_000, 4_000_000);
    expect(text()).toBe('');
    progress.end();
    expect(text()).toMatch(/^\r +\r$/);
  });

  it('never writes beyond the width of the terminal', () => {
    const { progress, clock, text } = report({ isTTY: true, columns: 20 });
    progress.step('build');
    text();
    clock.now = 1000;
    progress.progress(1, 2);
    expect(text().length).toBeLessThanOrEqual(20);
  });

  it('says nothing beside JSON', () => {
    const { progress, text } = report({ json: true, isTTY: true });
    progress.step('build');
    progress.notice('something');
    progress.progress(1, 2);
    expect(text()).toBe('');
  });
});
