#!/usr/bin/env node
import { basename } from 'node:path';
import { type Command, type Program, runProgram } from '../shared/cli/command.ts';
import { withSelfCommands } from '../shared/cli/self-commands.ts';
import { bootCompleteCommand } from './cli/boot-complete.ts';
import { checkCommand } from './cli/check.ts';
import { etcDiffCommand } from './cli/etc-diff.ts';
import { gcCommand } from './cli/gc.ts';
import { importCommand } from './cli/import.ts';
import { installCommand } from './cli/install.ts';
import { listCommand } from './cli/list.ts';
import { SETTING_OPTIONS } from './cli/options.ts';
import { policyImportCommand, policyTestCommand } from './cli/policy.ts';
import { pullCommand } from './cli/pull.ts';
import { rollbackCommand } from './cli/rollback.ts';
import { statusCommand } from './cli/status.ts';
import { updateCommand } from './cli/update.ts';
import { verifyCommand } from './cli/verify.ts';
import { isJournal } from './system/journal.ts';
import { keepHeapSmall } from './system/tidy-memory.ts';
import { containerSnap } from './tukit/container-snap.ts';
import { PACK_COMMAND, packStandardInput } from './update/pack-apart.ts';
import { VERSION } from './version.ts';

keepHeapSmall();

const commands: Program = {
  name: 'snaphost',
  version: VERSION,
  summary: 'updates this machine from signed operating system images',
  options: SETTING_OPTIONS,
  commands: [
    checkCommand,
    updateCommand,
    pullCommand,
    importCommand,
    statusCommand,
    listCommand,
    rollbackCommand,
    verifyCommand,
    policyTestCommand,
    policyImportCommand,
    gcCommand,
    bootCompleteCommand,
    etcDiffCommand,
    installCommand,
  ] as Command[],
};
const program = withSelfCommands(commands, {
  section: 8,
  description: `Updates a machine whose operating system is an image in a registry: it checks the
    signatures by the machine's own policy, fetches only what changed, turns it into snapshots inside
    Podman's storage, and boots into the new version. What does not work is left by itself.

    Every command can be run again after any interruption.`,
  files: [
    ['/etc/snaphost/config.json', 'which image the machine follows, and how'],
    ['/etc/snaphost/policy.json', 'who must have signed; without it everything is refused'],
    ['/etc/snaphost/health.d/required.d/', 'checks that must pass after a boot'],
    ['/etc/snaphost/health.d/wanted.d/', 'checks whose failure is only reported'],
    ['/var/lib/snaphost/', 'downloads and records'],
    ['/run/snaphost/status.json', 'what status --json printed after the last change'],
    [
      '/usr/share/doc/snaphost/MACHINE.md',
      'from an empty disk to a machine that updates and goes back',
    ],
  ],
  environment: [['SNAPGATE_DEBUG', 'print the stack of internal errors']],
  examples: [
    [
      'snaphost install --image docker://updates.example/edge/os:stable --disk /dev/sda --erase',
      'makes a machine of an empty disk',
    ],
    ['snaphost update --reboot', 'installs what the tag names and boots it'],
    ['snaphost rollback', 'boots next what ran before; systemctl reboot goes there'],
    ['snaphost list', 'shows what can be booted, and why something was given up'],
  ],
  seeAlso: ['podman(1)', 'btrfs(8)', 'systemd-boot(7)', 'skopeo(1)'],
});

// The name it was called by: of the script, or of the executable that carries it.
const isContainerSnap = [process.argv[1], process.argv0].some(
  (called) => basename(called ?? '') === 'container-snap',
);
const abort = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => abort.abort());
const streams = { out: process.stdout, err: process.stderr, hasPriorities: isJournal(2) };
const args = process.argv.slice(2);
const work =
  args[0] === PACK_COMMAND
    ? packStandardInput(args.slice(1)).then(() => 0)
    : runProgram(isContainerSnap ? containerSnap : program, args, streams, abort.signal);
// No await at the top: the packaged program is a script of the older kind, which knows none.
void work.then((status) => {
  process.exitCode = status;
});
