/**
 * What a machine pays without an update, and after one is built: the client's start, an update with
 * nothing to do, and making what boots of an image that is there. Run as root:
 * `node test/bench/machine.ts [CLIENT...]`, where a client is a script or an executable; the checkout
 * and what `deploy/run package` made when none is named.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatBytes, formatTable } from '../../shared/cli/format.ts';
import { startFaultyLine } from '../support/faulty-line.ts';
import { fleetSkipReason, SNAPHOST, startFleet } from '../support/fleet.ts';
import { runProgramFile } from '../support/run-program.ts';
import { DiskMachine } from '../support/steps/disk-machine.ts';
import { putTinyImage, type TinyFiles } from '../support/tiny-image.ts';

const RUNS = 7;
const reason = fleetSkipReason();
if (reason !== undefined) throw new Error(reason);

/** Seconds on the clock and of the processors, children included, and what was printed. */
type Cost = { readonly seconds: number; readonly cpu: number; readonly stdout: string };

async function costOf(client: string, args: readonly string[]): Promise<Cost> {
  const argv =
    client.endsWith('.ts') || client.endsWith('js') ? [process.execPath, client] : [client];
  const timed = ['-c', 'TIMEFORMAT="%R %U %S"; time "$@" 2>&3', 'bash', ...argv, ...args];
  const { status, stdout, stderr } = await runProgramFile('bash', [
    '-c',
    `exec bash "$@" 3>/dev/null`,
    'bash',
    ...timed,
  ]);
  if (status !== 0) throw new Error(`${client} ${args.join(' ')}: ${stdout}${stderr}`);
  const [seconds = 0, user = 0, system = 0] = stderr.trim().split(/\s+/).map(Number);
  return { seconds, cpu: user + system, stdout };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

function version(n: number): TinyFiles[] {
  const modules = `usr/lib/modules/6.${n}`;
  const etc = Object.fromEntries(
    Array.from({ length: 800 }, (_, i) => [`etc/part${i % 20}/file${i}`, `value ${i}\n`]),
  );
  const folder = { type: 'directory' as const };
  const root = { 'var/': folder, 'run/': folder, 'etc/version': `${n}\n` };
  const kernel = {
    [`${modules}/vmlinuz`]: randomBytes(8e6),
    [`${modules}/initrd`]: randomBytes(3e7),
  };
  return [{ ...root, ...etc, ...kernel }];
}

const fleet = await startFleet();
const line = await startFaultyLine(Number(new URL(fleet.gateway.url).port));
const machine = new DiskMachine({ bootMiB: 256 });
try {
  const config = { ...machine.config(line.url), smallestDelta: 1e12 };
  writeFileSync(join(machine.base, 'config.json'), JSON.stringify(config));
  writeFileSync(join(machine.base, 'policy.json'), JSON.stringify(fleet.policy));
  const common = ['--json', '--root', machine.root, '--config', join(machine.base, 'config.json')];
  await putTinyImage(fleet.repository, version(1), { tag: 'stable' });
  machine.start();
  const first = JSON.parse((await costOf(SNAPHOST, ['update', ...common])).stdout).deployment;
  machine.stop();
  machine.start(first);
  // What the machine changed must be merged into the next version.
  const etc = join(machine.root, 'etc');
  for (const name of readdirSync(join(etc, 'part3')))
    writeFileSync(join(etc, 'part3', name), 'own\n');
  await costOf(SNAPHOST, ['boot-complete', ...common]);

  const packaged = fileURLToPath(new URL('../../.cache/package/', import.meta.url));
  const known = [SNAPHOST, join(packaged, 'snaphost.mjs'), join(packaged, 'snaphost')];
  const named = process.argv.slice(2);
  const clients = (named.length > 0 ? named : known).filter((path) => existsSync(path));
  const rows: string[][] = [];
  for (const client of clients) {
    const measure = async (what: string, args: readonly string[]) => {
      const costs: Cost[] = [];
      for (let run = 0; run < RUNS; run += 1) costs.push(await costOf(client, args));
      const seconds = median(costs.map((one) => one.seconds)).toFixed(2);
      const cpu = median(costs.map((one) => one.cpu)).toFixed(2);
      rows.push([what, client.split('/').slice(-2).join('/'), seconds, cpu]);
    };
    await measure('status', ['status', ...common]);
    await measure('update, nothing to do', ['update', ...common]);
  }
  console.log(formatTable(['', 'client', 'seconds', 'CPU s'], rows));

  const before = { received: line.received, sent: line.sent };
  await costOf(SNAPHOST, ['update', ...common]);
  const received = line.received - before.received;
  const sent = line.sent - before.sent;
  await putTinyImage(fleet.repository, version(2), { tag: 'stable' });
  const events = join(machine.base, 'events');
  const script = `exec "$@" 3>${events}`;
  const argv = [process.execPath, SNAPHOST, 'update', ...common, '--progress-fd', '3'];
  const updated = await runProgramFile('sh', ['-c', script, 'sh', ...argv]);
  if (updated.status !== 0) throw new Error(`update: ${updated.stdout}${updated.stderr}`);
  const told = readFileSync(events, 'utf8')
    .trim()
    .split('\n')
    .map((text) => JSON.parse(text));
  const at = (step: string) => Date.parse(told.find((one) => one.step === step)?.time);
  const deploy = (Date.parse(told.at(-1).time) - at('deploy')) / 1000;
  console.log(
    formatTable(
      ['', 'value'],
      [
        ['nothing to do: received', formatBytes(received)],
        ['nothing to do: sent', formatBytes(sent)],
        [
          'deploy after build, seconds (800 files in /etc, 40 changed, 38 MB of kernel)',
          deploy.toFixed(2),
        ],
      ],
    ),
  );
} finally {
  machine.remove();
  await line.stop();
  await fleet.stop();
}
