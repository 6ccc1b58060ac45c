import { describe, expect, it } from 'vitest';
import { EventLines } from '../../../host-client/cli/event-lines.ts';
import { SnapgateError } from '../../../shared/errors.ts';

function scene() {
  const lines: string[] = [];
  const at = { now: 0, waiting: 0 };
  const events = new EventLines(
    (line) => lines.push(line),
    () => at.waiting,
    () => at.now,
  );
  const seen = () => lines.splice(0).map((line) => JSON.parse(line));
  return { events, at, seen };
}

describe('lines of events', () => {
  it('are one versioned object each', () => {
    const { events, seen } = scene();
    events.step('resolve', 'os:stable');
    events.notice('two\nlines');
    events.end();
    const common = { version: 1, time: expect.stringMatching(/^\d{4}-.*Z$/) };
    expect(seen()).toEqual([
      { ...common, event: 'step', step: 'resolve', detail: 'os:stable' },
      { ...common, event: 'notice', message: 'two\nlines' },
      { ...common, event: 'end' },
    ]);
  });

  it('tell of progress now and then, and of its end', () => {
    const { events, at, seen } = scene();
    events.step('download');
    for (const done of [0, 10, 20, 30]) {
      events.progress(done, 100);
      at.now += 200;
    }
    events.progress(100, 100);
    expect(seen().flatMap(({ done }) => done ?? [])).toEqual([0, 30, 100]);
  });

  it('leave out progress for a reader that does not read, and nothing else', () => {
    const { events, at, seen } = scene();
    at.waiting = 1_000_000;
    events.progress(100, 100);
    events.step('build');
    expect(seen().map(({ event }) => event)).toEqual(['step']);
  });

  it('end with the error', () => {
    const { events, seen } = scene();
    events.end(new SnapgateError('NO_SPACE', 'full', { where: '/var' }));
    expect(seen()).toMatchObject([
      { event: 'end', error: { code: 'NO_SPACE', message: 'full', where: '/var' } },
    ]);
  });

  it.each(['x', '-1', '999999'])('cannot go to %s', (text) => {
    expect(() => EventLines.toDescriptor(text)).toThrow('no such file descriptor');
  });
});
