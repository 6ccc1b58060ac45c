#!/usr/bin/env node
import { keepCompiled } from './cli/keep-compiled.ts';

keepCompiled();
// Only what is imported from here on is kept.
const { runSnapgate } = await import('./cli/program.ts');
const abort = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => abort.abort());
process.exitCode = await runSnapgate(process.argv.slice(2), abort.signal);
