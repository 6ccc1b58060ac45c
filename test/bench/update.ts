/**
 * The update of the demo, v1 to v2 of a real system, against `podman pull`: bytes on the line, bytes
 * written, seconds, memory. Run as root: `node test/bench/update.ts [--small]`, or with the file that
 * holds what `deploy/run demo --json` printed.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
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
  delta: { seconds: number; layerBytes: number };
};

const args = process.argv.slice(2);
const [saved] = args.filter((arg) => !arg.startsWith('--'));
const summary = JSON.parse(
  saved === undefined ? await runDemo(args) : await readFile(saved, 'utf8'),
) as Summary;

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
      ['layers of the delta', formatBytes(summary.delta.layerBytes)],
      ['making the delta at the gateway, seconds', summary.delta.seconds.toFixed(1)],
    ],
  ),
);

async function runDemo(options: string[]): Promise<string> {
  const demo = fileURLToPath(new URL('../../deploy/demo/run.ts', import.meta.url));
  const argv = [demo, '--json', ...options];
  return (await promisify(execFile)(process.execPath, argv, { maxBuffer: 2 ** 24 })).stdout;
}
