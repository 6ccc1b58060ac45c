#!/usr/bin/env node
import { type Program, runProgram } from '../shared/cli/command.ts';

const program: Program = {
  name: 'snaphost',
  version: '0.1.0',
  summary: 'updates this machine from signed operating system images',
  commands: [],
};

const abort = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => abort.abort());
process.exitCode = await runProgram(
  program,
  process.argv.slice(2),
  { out: process.stdout, err: process.stderr },
  abort.signal,
);
