/**
 * The memory of `snaphost update` by each way that an update goes: v1 to v2 of the demo's images, by
 * the one-file client, the executable and the checkout. "Peak" is the most that the process had
 * resident, "downloading" and "building" the most at these steps, "of it code" what of the peak were
 * unchanged pages of the program's file, and "zstd" the most that a zstd program took beside it. Run as
 * root: `node test/bench/memory.ts [--small]`, with docker-registry, podman, skopeo and btrfs-progs.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatBytes, formatTable } from '../../shared/cli/format.ts';
import { fleetSkipReason, SNAPHOST, startFleet, TestMachine } from '../support/fleet.ts';
import { prepareWay, type UpdateWay } from '../support/update-ways.ts';

const WAYS: readonly UpdateWay[] = ['whole', 'tar-diff', 'plain', 'recompressing'];
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const SAMPLE_MS = 10;

type Sample = { readonly resident: number; readonly code: number };
type Measured = { step: string; peaks: Map<string, Sample>; peak: number; zstd: number };

const reason = fleetSkipReason();
if (reason !== undefined) throw new Error(reason);
const set = process.argv.includes('--small') ? 'small' : 'images';
const images = fileURLToPath(new URL(`../../.cache/demo/${set}`, import.meta.url));
const work = mkdtempSync(join(tmpdir(), 'snapgate-memory-'));
const build = fileURLToPath(new URL('../../deploy/package/build.ts', import.meta.url));
execFileSync(process.execPath, [build, work]);
const clients = {
  'one file': [process.execPath, join(work, 'snaphost.mjs')],
  executable: [join(work, 'snaphost')],
  checkout: [process.execPath, SNAPHOST],
};
const fleet = await startFleet();
const target = `docker://${fleet.gateway.host}/os/image:stable`;
const rows: string[][] = [];
try {
  for (const way of WAYS) {
    const names = way === 'recompressing' ? Object.keys(clients) : ['one file'];
    for (const name of names) rows.push([way, name, ...(await measure(way, name))]);
  }
} finally {
  await fleet.stop();
  rmSync(work, { recursive: true });
}
const columns = ['v1 → v2', 'client', 'peak', 'of it code', 'downloading', 'building', 'zstd'];
console.log(formatTable(columns, rows));

async function measure(way: UpdateWay, name: string): Promise<string[]> {
  const machine = await TestMachine.create(fleet.gateway.url, fleet.policy, { sizeMiB: 8192 });
  try {
    machine.env = { NODE_COMPILE_CACHE: join(work, 'compiled') };
    machine.client = clients[name as keyof typeof clients];
    const source = await publish('v1');
    const installed = await machine.snaphost('update');
    if (installed.status !== 0) throw new Error(`v1 was not installed: ${installed.stderr}`);
    const { manifest } = await publish('v2');
    const pair = { source: source.config, target: manifest };
    const options = await prepareWay(fleet, machine, way, pair);
    if (name === 'executable') forget(join(work, 'snaphost'));
    const { peak, peaks, zstd } = await watch(machine, ['update', ...options]);
    const most = [...peaks.values()].reduce((a, b) => (a.resident > b.resident ? a : b));
    const at = (step: string) => formatBytes(peaks.get(step)?.resident ?? 0);
    const sizes = [formatBytes(peak), formatBytes(most.code), at('downloading'), at('building')];
    process.stderr.write(`${way}, ${name}: ${sizes.join('  ')}\n`);
    return [...sizes, zstd === 0 ? '-' : formatBytes(zstd)];
  } finally {
    await machine.remove();
  }
}

/**
 * Has the system forget what it holds in memory of a file, as after a boot. Of one that was just
 * written it holds all, and maps all of that around each page that is used: 20 MB more.
 */
function forget(file: string): void {
  execFileSync('sync', [file]);
  execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none']);
}

/** Gives the channel's tag to a version. */
async function publish(version: string): Promise<{ config: string; manifest: string }> {
  const source = `oci:${join(images, version)}:${version}`;
  execFileSync('skopeo', ['copy', '--quiet', '--dest-tls-verify=false', source, target]);
  const url = `${fleet.gateway.url}/v2/os/image/manifests/stable`;
  const answer = await fetch(url, { headers: { accept: MANIFEST } });
  const { config } = (await answer.json()) as { config: { digest: string } };
  const manifest = answer.headers.get('docker-content-digest') ?? '';
  return { config: config.digest, manifest };
}

/** Runs the client for people to read, and looks at its memory while it says what it does. */
async function watch(machine: TestMachine, args: string[]): Promise<Measured> {
  const [program = '', ...rest] = [...machine.client, ...args, '--root', machine.root];
  const env = { ...process.env, ...machine.env };
  const child = spawn(program, rest, { stdio: ['ignore', 'ignore', 'pipe'], env });
  const seen: Measured = { step: 'start', peaks: new Map(), peak: 0, zstd: 0 };
  let words = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    words += text;
    const step = /^(downloading|building|registering|deploying)/m.exec(text)?.[1];
    if (step !== undefined) seen.step = step;
  });
  const timer = setInterval(() => look(child.pid ?? 0, seen), SAMPLE_MS);
  const status = await new Promise((resolve) => child.once('close', resolve));
  clearInterval(timer);
  if (status !== 0) throw new Error(`the update failed: ${words}`);
  return seen;
}

function look(pid: number, seen: Measured): void {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    const sample = { resident: field(status, 'VmRSS'), code: field(status, 'RssFile') };
    if (sample.resident > (seen.peaks.get(seen.step)?.resident ?? 0)) {
      seen.peaks.set(seen.step, sample);
    }
    seen.peak = Math.max(seen.peak, field(status, 'VmHWM'));
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1');
    for (const one of children.split(' ').filter(Boolean)) {
      const other = readFileSync(`/proc/${one}/status`, 'latin1');
      if (!other.startsWith('Name:\tzstd\n')) continue;
      seen.zstd = Math.max(seen.zstd, field(other, 'VmHWM'));
    }
  } catch {
    // It has not begun, or has ended.
  }
}

/** A field of `/proc/PID/status`, in bytes. */
function field(status: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0) * 1024;
}
