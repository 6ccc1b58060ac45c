#!/usr/bin/env node
import { type Command, type Program, runProgram } from '../shared/cli/command.ts';
import { checkCommand } from './cli/check.ts';
import { gcCommand } from './cli/gc.ts';
import { listCommand } from './cli/list.ts';
import { SETTING_OPTIONS } from './cli/options.ts';
import { rollbackCommand } from './cli/rollback.ts';
import { statusCommand } from './cli/status.ts';
import { updateCommand } from './cli/update.ts';
import { verifyCommand } from './cli/verify.ts';

const program: Program = {
  name: 'snaphost',
  version: '0.1.0',
  summary: 'updates this machine from signed operating system images',
  options: SETTING_OPTIONS,
  commands: [
    checkCommand,
    updateCommand,
    statusCommand,
    listCommand,
    rollbackCommand,
    verifyCommand,
    gcCommand,
  ] as Command[],
};

const abort = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => abort.abort());
process.exitCode = await runProgram(
  program,
  process.argv.slice(2),
  { out: process.stdout, err: process.stderr },
  abort.signal,
);
