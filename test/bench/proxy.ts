/**
 * How fast a large blob comes through the gateway, against asking the registry directly, and how
 * much memory the gateway takes for it. Run: `node test/bench/proxy.ts [MiB] [ROUNDS]`.
 */
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { formatBytes, formatTable } from '../../shared/cli/format.ts';
import { startGatewayProcess } from '../support/gateway.ts';
import { startRegistry } from '../support/registry.ts';

const MIB = 2 ** 20;
const [mebibytes = 1024, rounds = 5] = process.argv.slice(2).map(Number);

/** The same bytes every time, without keeping them. */
function* content(): Generator<Buffer> {
  const piece = randomBytes(MIB);
  for (let i = 0; i < mebibytes; i += 1) {
    piece.writeUInt32BE(i);
    yield Buffer.from(piece);
  }
}

async function push(url: string): Promise<{ path: string; seconds: number }> {
  const pieces = [...Array(1)].map(() => content());
  const hash = createHash('sha256');
  const started = await fetch(`${url}/v2/bench/blob/blobs/uploads/`, { method: 'POST' });
  const location = new URL(started.headers.get('location') ?? '', url);
  const start = performance.now();
  const body = ReadableStream.from(hashed(pieces[0] ?? content(), hash));
  const patched = await fetch(location, { method: 'PATCH', body, duplex: 'half' } as RequestInit);
  const seconds = (performance.now() - start) / 1000;
  const end = new URL(patched.headers.get('location') ?? '', url);
  const digest = `sha256:${hash.digest('hex')}`;
  end.searchParams.set('digest', digest);
  const done = await fetch(end, { method: 'PUT' });
  if (done.status !== 201) throw new Error(`the upload ended with ${done.status}`);
  return { path: `/v2/bench/blob/blobs/${digest}`, seconds };
}

async function* hashed(pieces: Iterable<Buffer>, hash: ReturnType<typeof createHash>) {
  for (const piece of pieces) {
    hash.update(piece);
    yield piece;
  }
}

/** Bytes a second, as curl measures them. */
async function rate(url: string): Promise<number> {
  const args = ['-sf', '-o', '/dev/null', '-w', '%{size_download} %{time_total}', url];
  const { stdout } = await promisify(execFile)('curl', args);
  const [size = 0, seconds = 1] = stdout.split(' ').map(Number);
  if (size !== mebibytes * MIB) throw new Error(`${size} bytes came`);
  return size / seconds;
}

function memory(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1] ?? 0) * 1024;
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

const registry = await startRegistry();
const gateway = await startGatewayProcess(registry.url);
try {
  const up = { direct: await push(registry.url), gateway: await push(gateway.url) };
  const afterPush = memory(gateway.pid, 'VmHWM');
  const { path } = up.direct;
  const before = memory(gateway.pid, 'VmRSS');
  const rates = { direct: [] as number[], gateway: [] as number[] };
  for (let i = 0; i < rounds; i += 1) {
    rates.direct.push(await rate(registry.url + path));
    rates.gateway.push(await rate(gateway.url + path));
  }
  const size = mebibytes * MIB;
  const row = (what: string, direct: number, through: number) => [
    what,
    `${formatBytes(direct)}/s`,
    `${formatBytes(through)}/s`,
    `${((100 * through) / direct).toFixed(0)} %`,
  ];
  console.log(
    formatTable(
      [formatBytes(size), 'direct', 'gateway', 'ratio'],
      [
        row('pull, median', median(rates.direct), median(rates.gateway)),
        row('pull, best', Math.max(...rates.direct), Math.max(...rates.gateway)),
        row('push, once', size / up.direct.seconds, size / up.gateway.seconds),
      ],
    ),
  );
  console.log(
    formatTable(
      ['memory of the gateway', 'bytes'],
      [
        ['peak after the push', formatBytes(afterPush)],
        ['before the pulls', formatBytes(before)],
        [`after ${rounds} pulls`, formatBytes(memory(gateway.pid, 'VmRSS'))],
        ['peak', formatBytes(memory(gateway.pid, 'VmHWM'))],
      ],
    ),
  );
} finally {
  await gateway.stop();
  await registry.stop();
}
