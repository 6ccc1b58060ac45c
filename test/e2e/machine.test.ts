import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Fleet, fleetSkipReason, IMAGE_NAME, startFleet } from '../support/fleet.ts';
import { hasProgram } from '../support/has-program.ts';
import { runProgramFile } from '../support/run-program.ts';
import { VirtualMachine, vmMissing } from './vm.ts';
import { type BaseLayers, file, publishVersion, putBaseLayers } from './vm-images.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CACHE = join(ROOT, '.cache/vm');
const MINUTES = 60_000;

function skipReason(): string | undefined {
  if (process.env.SNAPGATE_VM !== '1') return 'takes minutes: run deploy/run test-vm';
  const missing = ['mmdebstrap', 'mformat', 'sfdisk'].find((name) => !hasProgram(name));
  return vmMissing() ?? fleetSkipReason() ?? (missing && `${missing} is not installed`);
}
const skip = skipReason();

let fleet: Fleet;
let base: BaseLayers;
let folder: string;
let disk: string;
let vm: VirtualMachine;
const digests = new Map<string, string>();

/** Publishes a version under its own tag and as what machines follow. */
async function publish(name: string, entries = [file('etc/issue', `${name}\n`)]): Promise<void> {
  const version = file('usr/lib/version', `${name}\n`);
  for (const tag of [name, 'stable']) {
    digests.set(name, await publishVersion(fleet.repository, base, tag, [version, ...entries]));
  }
}

/** Which version runs, by what its image ships. */
async function running(): Promise<string> {
  return (await vm.run('cat /usr/lib/version')).output;
}

async function snaphost(words: string, seconds = 600) {
  const { status, output } = await vm.run(`snaphost ${words} --json`, seconds);
  const last = output.split('\n').at(-1) ?? '';
  return { status, json: JSON.parse(last) };
}

/** Restarts the machine and waits for its shell, over as many boots as that takes. */
async function reboot(seconds: number): Promise<void> {
  const from = vm.log.length;
  await vm.run('systemctl reboot', 30);
  await vm.waitForShell(seconds, from);
  await vm.run('systemctl is-system-running --wait; true', 1200);
}

describe('a machine from an empty disk on', () => {
  beforeAll(async () => {
    if (skip !== undefined) return;
    const client = join(CACHE, 'snaphost');
    execFileSync(join(ROOT, 'test/e2e/base-image'), [join(CACHE, 'base.tar')], {
      stdio: 'inherit',
    });
    const build = join(ROOT, 'deploy/package/build.ts');
    execFileSync(process.execPath, [build, CACHE], { stdio: 'inherit' });
    expect(existsSync(client)).toBe(true);
    folder = await mkdtemp(join(tmpdir(), 'snapgate-vm-'));
    disk = join(folder, 'disk.img');
    fleet = await startFleet();
    await writeFile(join(folder, 'policy.json'), JSON.stringify(fleet.policy));
    const paths = { base: join(CACHE, 'base.tar'), client, units: join(ROOT, 'deploy/systemd') };
    base = await putBaseLayers(fleet.repository, paths);
    await publish('v1');
  }, 10 * MINUTES);

  afterAll(async () => {
    if (skip !== undefined) return;
    await vm?.kill();
    await fleet?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  it(
    'is installed into a disk image',
    async (context) => {
      context.skip(skip !== undefined, skip);
      const port = new URL(fleet.gateway.url).port;
      const { status, stdout, stderr } = await runProgramFile(process.execPath, [
        join(ROOT, 'host-client/main.ts'),
        ...['install', '--json', '--image', `docker://${fleet.gateway.host}/os/image:stable`],
        ...['--name', IMAGE_NAME, '--policy', join(folder, 'policy.json')],
        ...['--image-file', disk, '--size', '6144', '--boot-size', '256', '--tries', '2'],
        ...['--machine-gateway', `http://10.0.2.2:${port}`],
        ...['console=ttyS0', 'quiet', 'systemd.show_status=error'].flatMap((word) => [
          ...['--kernel-option', word],
        ]),
      ]);
      expect(stderr + stdout).not.toMatch(/"error"/);
      expect(JSON.parse(stdout)).toMatchObject({ method: 'full', to: digests.get('v1') });
      expect(status).toBe(0);
    },
    10 * MINUTES,
  );

  it(
    'boots, proves itself, and has a root that nobody writes to',
    async (context) => {
      context.skip(skip !== undefined, skip);
      vm = await VirtualMachine.start(disk);
      await vm.waitForShell();
      await vm.run('systemctl is-system-running --wait; true', 1200);
      expect(await running()).toBe('v1');
      const { json } = await snaphost('status');
      expect(json).toMatchObject({ rebootNeeded: false, running: { state: 'good' } });
      expect((await vm.run('ls /efi/loader/entries')).output).toMatch(
        /^snapgate-[0-9a-f-]+\.conf$/m,
      );
      expect((await vm.run('touch /usr/x')).output).toMatch(/Read-only file system/);
      expect((await vm.run('touch /etc/own /var/own')).status).toBe(0);
      expect((await vm.run('cat /etc/machine-id')).output).toMatch(/^[0-9a-f]{32}$/);
    },
    10 * MINUTES,
  );

  it(
    'updates by itself and boots into the new version with its own configuration',
    async (context) => {
      context.skip(skip !== undefined, skip);
      await publish('v2');
      const { status, json } = await snaphost('update');
      expect(json).toMatchObject({
        from: digests.get('v1'),
        to: digests.get('v2'),
      });
      expect(status).toBe(0);
      expect(json.peakRssBytes).toBeLessThan(192 * 1024 * 1024);
      await reboot(1200);
      expect(await running()).toBe('v2');
      expect((await vm.run('ls /etc/own /var/own')).status).toBe(0);
      const { json: state } = await snaphost('status');
      expect(state).toMatchObject({
        running: { manifest: digests.get('v2'), state: 'good' },
        rollback: { manifest: digests.get('v1') },
      });
      const { status: nothing, json: again } = await snaphost('update');
      expect([nothing, again.method]).toEqual([0, 'none']);
    },
    15 * MINUTES,
  );

  it(
    'comes back from a version that cannot boot, and does not try it again',
    async (context) => {
      context.skip(skip !== undefined, skip);
      const { output: kernel } = await vm.run('uname -r');
      await publish('v3', [file(`boot/initrd.img-${kernel}`, 'this is no initrd')]);
      expect((await snaphost('update')).status).toBe(0);
      await reboot(2400);
      expect(await running()).toBe('v2');
      const { json: list } = await snaphost('list');
      const failed = list.deployments.find(
        (one: { manifest: string }) => one.manifest === digests.get('v3'),
      );
      expect(failed).toMatchObject({ state: 'bad' });
      const { status, json } = await snaphost('update --automatic');
      expect(json.error).toMatchObject({ code: 'POLICY_REFUSED' });
      expect(status).toBe(3);
    },
    20 * MINUTES,
  );

  it(
    'comes back from a version whose health check fails, and says why',
    async (context) => {
      context.skip(skip !== undefined, skip);
      const check = '#!/bin/sh\necho "the pump does not answer" >&2\nexit 1\n';
      await publish('v4', [file('usr/lib/snaphost/health.d/required.d/pump', check, 0o755)]);
      expect((await snaphost('update')).status).toBe(0);
      const from = vm.log.length;
      await vm.run('systemctl reboot', 30);
      // Its tries are used up by boots that end by themselves.
      for (let boot = 0; boot < 8; boot += 1) {
        await vm.waitForShell(1200, from);
        if ((await running()) === 'v2') break;
        await vm.waitFor(/vm-shell-ready/, 1200, vm.log.length);
      }
      await vm.run('systemctl is-system-running --wait; true', 1200);
      expect(await running()).toBe('v2');
      const { json: list } = await snaphost('list');
      const failed = list.deployments.find(
        (one: { manifest: string }) => one.manifest === digests.get('v4'),
      );
      expect(failed.state).toBe('bad');
      expect(failed.reason).toMatch(/the pump does not answer/);
    },
    30 * MINUTES,
  );

  it(
    'frees what it no longer needs',
    async (context) => {
      context.skip(skip !== undefined, skip);
      const { status, json } = await snaphost('gc --keep 0');
      expect(status).toBe(0);
      expect(json.removedDeployments.length).toBeGreaterThanOrEqual(2);
      const { output } = await vm.run('ls /efi/loader/entries | wc -l');
      expect(output).toBe('2');
      await vm.stop();
    },
    10 * MINUTES,
  );
});
