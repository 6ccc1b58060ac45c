/**
 * Building an image in Podman's storage on the host: every layer of the demo's second version, with
 * the first one held. Seconds, memory of the process, bytes written to disk, against Podman's own
 * pull of the same image. Run as root: `node test/bench/host-build.ts [V1 V2]`, two OCI layouts. Mount
 * options of btrfs are taken from MOUNT_OPTIONS, such as `compress=zstd`.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openStorage } from '../../host-client/storage/open-storage.ts';
import type { Storage } from '../../host-client/storage/storage.ts';
import { keepHeapSmall, peakRssBytes } from '../../host-client/system/tidy-memory.ts';
import { formatBytes, formatTable } from '../../shared/cli/format.ts';
import { btrfsSkipReason, mountBtrfs } from '../support/btrfs.ts';
import { installImage, TestStorage } from '../support/podman-storage.ts';

type Result = { seconds: number; peakRssBytes: number; written: number; cloned: number };

const self = fileURLToPath(import.meta.url);
const images = fileURLToPath(new URL('../../.cache/demo/images', import.meta.url));
const [first = '', ...rest] = process.argv.slice(2);
if (first === '--build') await build(rest);
else if (first !== '--load') compare(first || join(images, 'v1'), rest[0] ?? join(images, 'v2'));

/** In a process of its own, so that its memory can be told. */
async function build([way = '', layout = '', graphRoot = '', runRoot = '']: string[]) {
  keepHeapSmall();
  const storage: Storage = await openStorage({ graphRoot, runRoot });
  const [first] = await storage.listImages();
  const started = performance.now();
  const options = way === 'sourced' && first ? { held: first } : {};
  const result = await installImage(storage, layout, `localhost/os:${way}`, options);
  const total = { written: result.bytesWritten, cloned: result.bytesCloned };
  const seconds = (performance.now() - started) / 1000;
  const memory = peakRssBytes();
  console.log(JSON.stringify({ seconds, peakRssBytes: memory, ...total } satisfies Result));
}

/** Bytes written to the device that a path is mounted from, by the kernel's count. */
function deviceWrites(path: string): number {
  execFileSync('sync', ['-f', path]);
  const device = execFileSync('findmnt', ['-no', 'SOURCE', path], { encoding: 'utf8' }).trim();
  const name = device.slice('/dev/'.length);
  return Number(readFileSync(`/sys/class/block/${name}/stat`, 'utf8').trim().split(/\s+/)[6]) * 512;
}

function compare(v1: string, v2: string): void {
  const reason = btrfsSkipReason();
  if (reason !== undefined) throw new Error(reason);
  const mount = mountBtrfs({
    sizeMiB: 8192,
    options: process.env.MOUNT_OPTIONS?.split(',') ?? [],
  });
  // As in the one-file client, no TypeScript is turned into JavaScript while it runs.
  process.env.NODE_COMPILE_CACHE = `${mount.image}-modules`;
  execFileSync(process.execPath, [self, '--load']);
  try {
    const rows = ['podman', 'full', 'sourced'].map((way) => {
      const storage = new TestStorage(mount.path, way);
      const copy = (from: string, tag: string) =>
        execFileSync('skopeo', [
          'copy',
          '-q',
          `oci:${from}`,
          storage.reference(`localhost/os:${tag}`),
        ]);
      copy(v1, 'v1');
      const before = deviceWrites(mount.path);
      const started = performance.now();
      let result: Partial<Result> = {};
      if (way === 'podman') copy(v2, 'v2');
      else {
        const args = [self, '--build', way, v2, storage.graphRoot, storage.runRoot];
        result = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as Result;
      }
      const { seconds = (performance.now() - started) / 1000, peakRssBytes, cloned } = result;
      const written = deviceWrites(mount.path) - before;
      const optional = (bytes: number | undefined) =>
        bytes === undefined ? '-' : formatBytes(bytes);
      return [
        { podman: 'podman pull', full: 'whole layers', sourced: 'files from v1' }[way] ?? way,
        ...[seconds.toFixed(1), optional(peakRssBytes), formatBytes(written), optional(cloned)],
      ];
    });
    console.log(formatTable(['v2', 'seconds', 'memory', 'written', 'shared'], rows));
  } finally {
    mount.unmount();
  }
}
