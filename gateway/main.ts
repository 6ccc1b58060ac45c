#!/usr/bin/env node
import { type Program, runProgram } from '../shared/cli/command.ts';
import { bundleExportCommand } from './cli/bundle-export.ts';
import { deltaApplyCommand } from './cli/delta-apply.ts';
import { deltaCompareCommand } from './cli/delta-compare.ts';
import { deltaCreateCommand } from './cli/delta-create.ts';
import { deltaInspectCommand } from './cli/delta-inspect.ts';
import { keysGenerateCommand, keysShowCommand } from './cli/keys.ts';
import { policyExportCommand, policyTestCommand } from './cli/policy.ts';
import { serveCommand } from './cli/serve.ts';
import { signCommand } from './cli/sign.ts';
import { tufAddCommand } from './cli/tuf/add.ts';
import { tufDelegateCommand } from './cli/tuf/delegate.ts';
import { tufInitCommand } from './cli/tuf/init.ts';
import { tufPublishCommand } from './cli/tuf/publish.ts';
import { tufRotateCommand } from './cli/tuf/rotate.ts';
import { tufSignCommand } from './cli/tuf/sign.ts';
import { tufStatusCommand } from './cli/tuf/status.ts';
import { verifyCommand } from './cli/verify.ts';

const program: Program = {
  name: 'snapgate',
  version: '0.1.0',
  summary: 'gateway that sends signed deltas of operating system images',
  commands: [
    serveCommand,
    deltaCreateCommand,
    deltaApplyCommand,
    deltaInspectCommand,
    deltaCompareCommand,
    bundleExportCommand,
    signCommand,
    verifyCommand,
    policyTestCommand,
    policyExportCommand,
    keysGenerateCommand,
    keysShowCommand,
    tufInitCommand,
    tufAddCommand,
    tufSignCommand,
    tufDelegateCommand,
    tufRotateCommand,
    tufPublishCommand,
    tufStatusCommand,
  ],
};

const abort = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => abort.abort());
process.exitCode = await runProgram(
  program,
  process.argv.slice(2),
  { out: process.stdout, err: process.stderr },
  abort.signal,
);
