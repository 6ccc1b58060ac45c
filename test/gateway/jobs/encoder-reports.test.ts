import { describe, expect, it } from 'vitest';
import { EncoderReports } from '../../../gateway/jobs/encoder-reports.ts';

const DAY = 24 * 60 * 60 * 1000;

function scene() {
  const clock = { now: 1000 };
  const heard: number[] = [];
  const reports = new EncoderReports({
    now: () => clock.now,
    onReport: (_repository, _machines, reporters) => heard.push(reporters),
  });
  const report = (client: string, machines = 'class', repository = 'os/image') =>
    reports.report(repository, machines, client);
  const isSuspected = (machines = 'class', repository = 'os/image') =>
    reports.isSuspected(repository, machines);
  return { clock, heard, report, isSuspected };
}

describe('reports of encoders', () => {
  it('change what others get only when several clients make them', () => {
    const { heard, report, isSuspected } = scene();
    for (let i = 0; i < 100; i += 1) report('one');
    report('two');
    expect(isSuspected()).toBe(false);
    report('three');
    expect(isSuspected()).toBe(true);
    expect(heard.slice(-2)).toEqual([2, 3]);
  });

  it('are about machines of one class in one repository', () => {
    const { report, isSuspected } = scene();
    for (const client of ['one', 'two']) report(client);
    report('three', 'other');
    report('three', 'class', 'os/other');
    expect([isSuspected(), isSuspected('other'), isSuspected('class', 'os/other')]).toEqual([
      false,
      false,
      false,
    ]);
    report('three');
    expect([isSuspected(), isSuspected('other'), isSuspected('class', 'os/other')]).toEqual([
      true,
      false,
      false,
    ]);
  });

  it('count for some days', () => {
    const { clock, report, isSuspected } = scene();
    report('one');
    report('two');
    clock.now += 7 * DAY;
    report('three');
    expect(isSuspected()).toBe(false);
  });

  it('are forgotten after some days, and then it takes as many again', () => {
    const { clock, report, isSuspected } = scene();
    for (const client of ['one', 'two', 'three']) report(client);
    clock.now += 7 * DAY - 1;
    expect(isSuspected()).toBe(true);
    clock.now += 1;
    expect(isSuspected()).toBe(false);
    report('one');
    expect(isSuspected()).toBe(false);
  });

  it('take a bounded amount of memory', () => {
    const { report, isSuspected } = scene();
    for (const client of ['one', 'two', 'three']) report(client);
    for (let i = 0; i < 1000; i += 1) report('liar', `class ${i}`);
    expect(isSuspected()).toBe(false);
  });
});
