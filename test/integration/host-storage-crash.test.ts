import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openStorage } from '../../host-client/storage/open-storage.ts';
import { type BtrfsMount, btrfsSkipReason, mountBtrfs } from '../support/btrfs.ts';
import { peerMissing, peerPath } from '../support/peers.ts';
import {
  installImage,
  type LayoutImage,
  programsSkipReason,
  putLayoutImage,
  TestStorage,
} from '../support/podman-storage.ts';
import { rawTar } from '../support/raw-tar.ts';

const reason = btrfsSkipReason() ?? programsSkipReason('skopeo', 'podman');
const VICTIM = fileURLToPath(new URL('../support/storage-victim.ts', import.meta.url));
const V1 = 'localhost/os:v1';
const V2 = 'localhost/os:v2';

/**
 * Stands in for `btrfs` and `skopeo`: counts its calls, and around the one that is asked for it does
 * something, such as killing the process that called it.
 */
const SHIM = `#!/bin/sh
name=\${0##*/}
real=$(PATH=$REAL_PATH command -v "$name")
count=1
# Two may start at once: making a folder succeeds only once.
until mkdir "$SHIM_DIR/calls/$count" 2>/dev/null; do count=$((count + 1)); done
echo "$name $*" >"$SHIM_DIR/calls/$count/command"
if [ "$SHIM_ACTION" = copy ]; then
  "$real" "$@"
  status=$?
  cp --sparse=always "$SHIM_DISK" "$SHIM_DIR/disk-$count"
  exit $status
fi
[ "$count" = "$SHIM_CALL" ] || exec "$real" "$@"
case $SHIM_ACTION in
  before) kill -9 $PPID; exit 1 ;;
  during) kill -9 $PPID; exec "$real" "$@" ;;
  after) "$real" "$@"; kill -9 $PPID ;;
esac
`;

type Action = 'before' | 'during' | 'after' | 'copy' | 'none';

describe('putting an image into storage', () => {
  let mount: BtrfsMount;
  let podman: TestStorage;
  let v1: LayoutImage;
  let v2: LayoutImage;
  let shims: string;

  beforeAll(async () => {
    if (reason !== undefined) return;
    mount = mountBtrfs({ sizeMiB: 1024 });
    podman = new TestStorage(mount.path);
    shims = `${mount.image}-shims`;
    mkdirSync(shims);
    for (const name of ['btrfs', 'skopeo']) {
      writeFileSync(join(shims, name), SHIM);
      chmodSync(join(shims, name), 0o755);
    }
    const etc = { name: 'etc', type: '5' };
    const common = { name: 'etc/large', content: Buffer.alloc(900_000, 'content ') };
    const tars1 = [rawTar([etc, common, { name: 'etc/version', content: '1' }])];
    const tars2 = [
      rawTar([etc, common, { name: 'etc/version', content: '2'.repeat(300_000) }]),
      rawTar([etc, { name: 'etc/more', content: 'more' }]),
    ];
    v1 = await putLayoutImage(join(mount.path, 'v1'), tars1);
    v2 = await putLayoutImage(join(mount.path, 'v2'), tars2);
    podman.copyIn(v1, V1);
    execFileSync('sync', ['-f', mount.path]);
  });
  afterAll(() => mount?.unmount());
  beforeEach((ctx) => ctx.skip(reason !== undefined, reason));

  /** Runs the victim; gives back the calls of programs that it made. */
  function runVictim(action: Action, call = 0): { status: number | null; calls: string[] } {
    const folder = join(shims, 'calls');
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    const path = process.env.PATH ?? '';
    const { status } = spawnSync(
      process.execPath,
      [VICTIM, podman.graphRoot, podman.runRoot, v2.layout, V2],
      {
        stdio: ['ignore', 'ignore', action === 'none' ? 'inherit' : 'ignore'],
        env: {
          ...process.env,
          ...{ PATH: `${shims}:${path}`, REAL_PATH: `${path}:/usr/sbin:/sbin`, SHIM_DIR: shims },
          ...{ SHIM_ACTION: action, SHIM_CALL: String(call), SHIM_DISK: mount.image },
        },
      },
    );
    const numbers = [...readdirSync(folder).keys()].map((i) => String(i + 1));
    const calls = numbers.map((n) => readFileSync(join(folder, n, 'command'), 'utf8').trim());
    return { status, calls };
  }

  const inventory = (folder: TestStorage) => ({
    subvolumes: readdirSync(join(folder.graphRoot, 'btrfs/subvolumes')).sort(),
    records: readdirSync(join(folder.graphRoot, 'btrfs-layers'))
      .filter((name) => name.endsWith('.tar-split.gz'))
      .sort(),
    layers: JSON.parse(readFileSync(join(folder.graphRoot, 'btrfs-layers/layers.json'), 'utf8'))
      .map((record: { id: string }) => record.id)
      .sort(),
    work: readdirSync(join(folder.graphRoot, 'snapgate')).sort(),
    staging: readdirSync(join(folder.graphRoot, 'snapgate/staging')),
  });

  /** Whatever happened: Podman works, and the same update ends well and leaves nothing else. */
  async function proveRecovery(folder: TestStorage, expected: ReturnType<typeof inventory>) {
    expect(folder.podman('images', '--format', '{{.Tag}}').split('\n')).toContain('v1');
    const storage = await openStorage(folder);
    const [held] = await storage.listImages();
    const image = await installImage(storage, v2.layout, V2, held ? { held } : {});
    expect(image.manifest).toBe(v2.manifest.digest);
    expect(inventory(folder)).toEqual(expected);
    const version = join(storage.subvolumeOf(image.layerIds[1] ?? ''), 'etc/version');
    expect(readFileSync(version, 'utf8')).toBe('2'.repeat(300_000));
  }

  async function removeV2() {
    const storage = await openStorage(podman);
    const image = (await storage.listImages()).find(({ names }) => names.includes(V2));
    if (image !== undefined) await storage.removeImage(image);
  }

  it('can be killed around every program it runs, and repeated', async (ctx) => {
    const clean = runVictim('none');
    expect(clean.status).toBe(0);
    const whole = inventory(podman);
    await removeV2();
    const bare = inventory(podman);
    expect(clean.calls.length).toBeGreaterThan(8);
    const outcomes = new Set<string>();
    for (let call = 1; call <= clean.calls.length; call += 1) {
      const name = clean.calls[call - 1] ?? '';
      const isReceive = name.includes(' receive ');
      for (const action of isReceive
        ? (['during', 'after'] as const)
        : (['before', 'after'] as const)) {
        const { status } = runVictim(action, call);
        expect(status, `${action} ${name}`).not.toBe(0);
        outcomes.add(
          existsSync(join(podman.graphRoot, 'snapgate/journal.json')) ? 'journal' : 'none',
        );
        await proveRecovery(podman, whole);
        await removeV2();
        expect(inventory(podman), `${action} ${name}`).toEqual(bare);
      }
    }
    expect([...outcomes].sort()).toEqual(['journal', 'none']);
    const missing = peerMissing('podman5');
    ctx.skip(missing !== undefined, `system check: ${missing}`);
    expect(podman.podmanOf(peerPath('podman5'), 'system', 'check')).toBe('');
  }, 600_000);

  it('forgets layers of an interrupted update when another one follows', async () => {
    const { calls } = runVictim('none');
    await removeV2();
    const bare = inventory(podman);
    // Layers are registered, the image is not made.
    const copy = calls.findIndex((call) => call.startsWith('skopeo')) + 1;
    runVictim('before', copy);
    expect(inventory(podman).layers.length).toBe(bare.layers.length + 2);
    const storage = await openStorage(podman);
    await using transaction = await storage.begin({ layers: v1.layers });
    expect(transaction.missing).toEqual([]);
    expect(inventory(podman)).toEqual(bare);
  });

  it('survives a loss of power after every program it runs, and is safe once it is done', async () => {
    const { status, calls } = runVictim('copy');
    expect(status).toBe(0);
    const whole = inventory(podman);
    execFileSync('cp', ['--sparse=always', mount.image, join(shims, 'disk-end')]);
    execFileSync('umount', ['--recursive', mount.path]);
    try {
      for (const step of [...calls.keys()].map((i) => String(i + 1)).concat('end')) {
        const disk = join(shims, `disk-${step}`);
        execFileSync('mount', ['-o', 'loop', disk, mount.path]);
        try {
          const names = podman.podman('images', '--format', '{{.Tag}}').split('\n');
          expect(names, `after ${calls[Number(step) - 1]}`).toContain('v1');
          if (step === 'end') expect(names).toContain('v2');
          await proveRecovery(podman, whole);
        } finally {
          execFileSync('umount', ['--recursive', mount.path]);
          rmSync(disk);
        }
      }
    } finally {
      execFileSync('mount', ['-o', 'loop', mount.image, mount.path]);
    }
  }, 600_000);
});
