/**
 * The update of the demo, v1 to v2 of a real system, against `podman pull`: bytes on the line, bytes
 * written, seconds, memory. Run as root: `node test/bench/update.ts [--small]`.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { formatBytes, formatTable } from '../../shared/cli/format.ts';

type Cost = { line: number; written: number; seconds: number };
type Summary = {
  images: { fullBytes: number };
  install: Cost;
  update: Cost;
  podmanInstall: Cost;
  podman: Cost;
  report: { peakRssBytes?: number };
  delta: { seconds?: number; peakRssBytes?: number };
};

const demo = fileURLToPath(new URL('../../deploy/demo/run.ts', import.meta.url));
const args = [demo, '--json', ...process.argv.slice(2)];
const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 24 });
const summary = JSON.parse(stdout) as Summary;

const row = (what: string, { line, written, seconds }: Cost) => [
  ...[what, formatBytes(line), formatBytes(written), seconds.toFixed(1)],
];
console.log(
  formatTable(
    ['', 'on the line', 'written', 'seconds'],
    [
      row('v1 → v2, snaphost by delta', summary.update),
      row('v1 → v2, podman pull', summary.podman),
      row('bare → v1, snaphost', summary.install),
      row('bare → v1, podman pull', summary.podmanInstall),
    ],
  ),
);
const percent = (a: number, b: number) => `${((100 * a) / b).toFixed(1)} %`;
console.log(
  formatTable(
    ['', 'value'],
    [
      ['v2 whole, packed', formatBytes(summary.images.fullBytes)],
      ['line, of podman pull', percent(summary.update.line, summary.podman.line)],
      ['written, of podman pull', percent(summary.update.written, summary.podman.written)],
      ['peak memory of snaphost, update', formatBytes(summary.report.peakRssBytes ?? 0)],
      ['making the delta, seconds', (summary.delta.seconds ?? 0).toFixed(1)],
    ],
  ),
);
