import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { ClosingReporter } from './support/closing-reporter.ts';

export default defineConfig({
  test: {
    root: fileURLToPath(new URL('..', import.meta.url)),
    include: ['test/**/*.test.ts'],
    reporters: ['default', new ClosingReporter()],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
  },
});
