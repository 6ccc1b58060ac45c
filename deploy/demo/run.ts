#!/usr/bin/env node
import { constants } from 'node:os';
import { parseArgs } from 'node:util';
import { Teller } from './print.ts';
import { Stage } from './stage.ts';
import { tell } from './story.ts';

const USAGE = `Usage: deploy/run demo [OPTIONS]

  --small                 a small image instead of a whole system: quick
  --mirror URI            Debian's archive (default: as in the apt configuration)
  --security-mirror URI   Debian's security archive (default: the same)
  --keep                  leave disks, files and logs at the end, and say where they are
  --json                  print one JSON object on standard output, and the story on standard error
`;

function readOptions() {
  try {
    return parseArgs({
      options: {
        small: { type: 'boolean', default: false },
        mirror: { type: 'string' },
        'security-mirror': { type: 'string' },
        keep: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (thrown) {
    process.stderr.write(`deploy/run demo: ${(thrown as Error).message}\n\n${USAGE}`);
    process.exit(2);
  }
}

const options = readOptions();
if (options.help) {
  process.stdout.write(USAGE);
  process.exit(0);
}
if (process.getuid?.() !== 0) {
  process.stderr.write('deploy/run demo: needs root, to mount a btrfs file system\n');
  process.exit(2);
}

const abort = new AbortController();
let signalled: NodeJS.Signals | undefined;
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => {
    signalled ??= name;
    abort.abort();
  });
}

// Whoever reads this may be gone first; what was started is taken down all the same.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', () => abort.abort());
}

const teller = new Teller(options.json ? process.stderr : process.stdout);
// Disks are large: not where /tmp is memory.
const stage = await Stage.open(process.env.TMPDIR ?? '/var/tmp', abort.signal);
try {
  const summary = await tell(stage, teller, options);
  if (options.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
} catch (thrown) {
  const why = signalled === undefined ? (thrown as Error).message : `stopped by ${signalled}`;
  process.stderr.write(`\ndeploy/run demo: ${why}\n`);
  process.exitCode = signalled === undefined ? 1 : 128 + constants.signals[signalled];
} finally {
  const left = await stage.close(options.keep);
  if (left.length > 0) {
    teller.say(`Left: ${stage.dir}. To remove it: ${left.join('; ')}`);
    if (!options.keep) process.exitCode = 1;
  }
}
