import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findChecks, requireHealthy, runChecks } from '../../../host-client/health/checks.ts';

let folder: string;
const own = () => join(folder, 'etc');
const shipped = () => join(folder, 'usr');
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'health-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function check(root: string, name: string, script: string, mode = 0o755): void {
  const path = join(root, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, mode);
}

const all = async (seconds = 20) => runChecks(await findChecks([own(), shipped()]), seconds);

describe('health checks', () => {
  it('run in the order of their names, required ones first', async () => {
    check(shipped(), 'wanted.d/10-a', 'exit 0');
    check(shipped(), 'required.d/20-b', 'exit 0');
    check(own(), 'required.d/10-c', 'exit 0');
    check(own(), 'required.d/readme', 'exit 1', 0o644);
    const names = (await all()).map(({ path }) => path.slice(folder.length));
    expect(names).toEqual(['/etc/required.d/10-c', '/usr/required.d/20-b', '/usr/wanted.d/10-a']);
  });

  it("may be replaced or switched off by the machine's own", async () => {
    check(shipped(), 'required.d/a', 'exit 1');
    check(own(), 'required.d/a', 'exit 0');
    check(shipped(), 'required.d/b', 'exit 1');
    symlinkSync('/dev/null', join(own(), 'required.d/b'));
    const results = await all();
    expect(results.map(({ path, passed }) => [path, passed])).toEqual([
      [join(own(), 'required.d/a'), true],
    ]);
  });

  it('fail the boot when a required one fails, with its last words', async () => {
    check(own(), 'required.d/disk', 'echo "no disk" >&2; exit 3');
    check(own(), 'wanted.d/net', 'exit 1');
    const results = await all();
    expect(results.map(({ passed }) => passed)).toEqual([false, false]);
    expect(() => requireHealthy(results)).toThrow(/disk.*exit status 3.*no disk/);
    expect(() => requireHealthy(results.filter(({ kind }) => kind === 'wanted'))).not.toThrow();
  });

  it('are ended when they hang', async () => {
    check(own(), 'required.d/hangs', 'exec sleep 600');
    expect(await all(0.2)).toMatchObject([{ passed: false, reason: 'not done in 0.2 s' }]);
  });

  it('are none on a machine that has none', async () => {
    expect(await all()).toEqual([]);
  });
});
