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
import { MANUAL } from './cli/manual.ts';
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
import { packForAnother } from './update/pack-apart.ts';
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
const program = withSelfCommands(commands, MANUAL);

// The name it was called by: of the script, or of the executable that carries it.
const isContainerSnap = [process.argv[1], process.argv0].some(
  (called) => basename(called ?? '') === 'container-snap',
);
const abort = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => abort.abort());
const streams = { out: process.stdout, err: process.stderr, hasPriorities: isJournal(2) };
const args = process.argv.slice(2);
const work =
  packForAnother(args)?.then(() => 0) ??
  runProgram(isContainerSnap ? containerSnap : program, args, streams, abort.signal);
// No await at the top: the packaged program is a script of the older kind, which knows none.
void work.then((status) => {
  process.exitCode = status;
});
