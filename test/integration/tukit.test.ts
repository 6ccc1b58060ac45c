import { randomBytes, randomUUID } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestHex } from '../../shared/digest.ts';
import {
  type Fleet,
  fleetSkipReason,
  IMAGE_NAME,
  policyFor,
  SNAPHOST,
  startFleet,
  TestMachine,
} from '../support/fleet.ts';
import { type Ended, runProgramFile } from '../support/run-program.ts';
import { putTinyImage, type TinyImage } from '../support/tiny-image.ts';

const skipReason = fleetSkipReason();
const PLUGIN = resolve('deploy/tukit/snapgate-plugin');
const library = randomBytes(400_000);

let fleet: Fleet;
let machine: TestMachine;
let programs: string;
let image: string;

beforeAll(async () => {
  if (skipReason !== undefined) return;
  fleet = await startFleet();
  machine = await TestMachine.create(fleet.gateway.url, fleet.policy);
  programs = await mkdtemp(join(tmpdir(), 'snapgate-tukit-'));
  await mkdir(join(programs, 'called'));
  await symlink(SNAPHOST, join(programs, 'called/container-snap'));
  await program('snaphost', `exec "${process.execPath}" "${SNAPHOST}" "$@"`);
  await program('container-snap', [
    `exec "${process.execPath}" "${programs}/called/container-snap" "$@" --root "$SNAP_ROOT"`,
    `--config "${machine.root}/etc/snaphost/config.json"`,
    `--policy "${machine.root}/etc/snaphost/policy.json"`,
    `--graph-root "${machine.root}/var/lib/containers/storage"`,
    `--state-dir "${machine.root}/var/lib/snaphost"`,
  ]);
});

afterAll(async () => {
  if (skipReason !== undefined) return;
  await machine.remove();
  await fleet.stop();
  await rm(programs, { recursive: true, force: true });
});

async function program(name: string, words: string | string[]): Promise<void> {
  await writeFile(join(programs, name), `#!/bin/sh\n${[words].flat().join(' ')}\n`);
  await chmod(join(programs, name), 0o755);
}

function shell(command: string, root: string): Promise<Ended> {
  const env = { PATH: `${programs}:${process.env.PATH}`, SNAP_ROOT: root, SNAPGATE_ROOT: root };
  return runProgramFile('sh', ['-c', command], { env });
}

/** What tukit takes as the answer: the whole output, trimmed; any other exit status is an error. */
async function snap(words: string, root = machine.root): Promise<string> {
  const { status, stdout, stderr } = await shell(`container-snap ${words}`, root);
  if (status !== 0) throw new Error(stderr);
  return stdout.trim();
}

async function publish(version: number): Promise<TinyImage> {
  const changed = Buffer.from(library);
  changed.write(`this is version ${version}`, 70_000);
  const files = [{ 'usr/lib/lib.so': changed, 'etc/version': `${version}\n` }];
  return putTinyImage(fleet.repository, files, { tag: 'stable' });
}

describe('the plugin of tukit', () => {
  it('vetoes a transaction whose image the policy refuses', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await writeFile(join(machine.root, 'etc/tukit.conf'), `OCI_TARGET="${IMAGE_NAME}:stable"\n`);
    image = digestHex((await publish(1)).config);
    await machine.write('policy', { version: 1, keys: {}, rules: [] });
    const { status, stderr } = await shell(`${PLUGIN} init-pre`, machine.root);
    expect(stderr).toContain('POLICY_REFUSED');
    expect(status).not.toBe(0);
    expect(machine.podman('images', '--no-trunc', '--quiet')).not.toContain(image);
  });

  it('brings the image, verified, and deploys nothing', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await machine.write('policy', policyFor(fleet.key.publicPem));
    const before = machine.bootsNext();
    expect(await shell(`${PLUGIN} init-pre`, machine.root)).toMatchObject({ status: 0 });
    expect(machine.podman('images', '--no-trunc', '--quiet')).toContain(image);
    expect(machine.podman('image', 'exists', `${IMAGE_NAME}:stable`)).toBe('');
    expect(machine.bootsNext()).toBe(before);
    expect(await snap('list-snapshots')).toBe(`# snapshot-id,ro\n${image},true`);
  });

  it('lets every other stage pass', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    for (const words of ['init-post /x 1', 'finalize-post 1 discarded', 'reboot-pre', 'new-pre']) {
      expect(await shell(`${PLUGIN} ${words}`, machine.root)).toMatchObject({ status: 0 });
    }
  });

  it('takes no other word for an image', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const folder = join(machine.root, 'etc/tukit.conf.d');
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, '50-x.conf'), `OCI_TARGET='--full; touch /x'\n`);
    const { status, stderr } = await shell(`${PLUGIN} init-pre`, machine.root);
    expect([status, stderr]).toEqual([1, expect.stringContaining('no image name')]);
    await rm(folder, { recursive: true });
  });
});

describe('container-snap', () => {
  let first: string;

  it('serves a transaction from its first call to its last', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    first = await snap(`create-snapshot ${image}`);
    expect(first).toBe(`${image}-work1`);
    const root = await snap(`get-root ${first}`);
    expect(await readFile(join(root, 'etc/version'), 'utf8')).toBe('1\n');
    expect(await snap(`get-readonly-state ${first}`)).toBe('false');
    await writeFile(join(root, 'etc/added'), 'by tukit');
    expect(await snap(`set-readonly-state --readonly ${first}`)).toBe('');
    expect(await snap(`get-readonly-state ${first}`)).toBe('true');
    await expect(writeFile(join(root, 'etc/more'), '')).rejects.toThrow('EROFS');
    expect(await snap(`switch ${first}`)).toBe('');
    expect(await snap('get-default')).toBe(first);
    expect(join(machine.root, machine.bootsNext())).toBe(root);
    expect(await snap('get-current', root)).toBe(first);
  });

  it('goes on from a snapshot, and takes back what is aborted', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const [second, third] = [
      await snap(`create-snapshot ${first}`),
      await snap(`create-snapshot ${first}`),
    ];
    expect(new Set([first, second, third]).size).toBe(3);
    const root = await snap(`get-root ${third}`);
    const { json: collected } = await machine.snaphost('gc', '--keep', '0');
    expect(collected.removedDeployments).toEqual([]);
    expect(collected.keptDeployments).toContain(basename(root));
    expect(await readFile(join(root, 'etc/added'), 'utf8')).toBe('by tukit');
    await snap(`set-readonly-state --no-readonly ${third}`);
    await writeFile(join(root, 'etc/added'), 'once more');
    expect(await snap(`delete --id=${third}`)).toBe('');
    await expect(stat(root)).rejects.toThrow('ENOENT');
    expect((await snap('list-snapshots')).split('\n').sort()).toEqual(
      ['# snapshot-id,ro', `${image},true`, `${first},true`, `${second},false`].sort(),
    );
    await expect(snap(`delete --id=${first}`)).rejects.toThrow('UNSUPPORTED');
    await expect(snap(`get-root ${third}`)).rejects.toThrow('NOTHING_TO_DO');
  });

  it('never lets an image itself be written to', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    expect(await snap(`get-readonly-state ${image}`)).toBe('true');
    await expect(snap(`set-readonly-state --no-readonly ${image}`)).rejects.toThrow('UNSUPPORTED');
    await snap(`switch ${image}`);
    expect(await snap('get-default')).toBe(`${image}-work3`);
  });

  it('pulls the next version by delta', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const next = await publish(2);
    expect((await machine.snaphost('pull')).json).toMatchObject({
      ...{ method: 'delta', image: next.config, manifest: next.stored.digest },
    });
    expect(await snap(`pull docker://${IMAGE_NAME}:stable`)).toBe('');
    const images = await snap('list-images');
    expect(images).toMatch(new RegExp(`^${digestHex(next.config)},20[^,]*,${IMAGE_NAME}:`, 'm'));
    const elsewhere = snap('pull registry.example/os/image:stable');
    await expect(elsewhere).rejects.toThrow('CONFIG_INVALID');
  });

  it('takes along /etc where that is a subvolume of its own', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const machineConfig = { rootUuid: randomUUID(), bootUuid: '1234-ABCD' };
    await machine.configure(fleet.gateway.url, { machine: machineConfig });
    const base = await snap(`create-snapshot ${image}`);
    const from = await snap(`get-root ${base}`);
    await writeFile(join(from, 'etc/added'), 'by tukit');
    const copy = await snap(`create-snapshot ${base}`);
    const to = await snap(`get-root ${copy}`);
    expect(await readFile(join(to, 'etc/added'), 'utf8')).toBe('by tukit');
    const fstab = await readFile(join(to, 'etc/fstab'), 'utf8');
    expect(fstab).toContain(`/@deployments/${basename(to)}/etc`);
    expect(fstab).not.toContain(basename(from));
    for (const id of [base, copy]) await snap(`delete --id=${id}`);
    expect(machine.subvolumes().filter((name) => name.endsWith('/etc'))).toEqual([]);
  });
});
