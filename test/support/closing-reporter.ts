import type { Reporter, TestCase, TestModule } from 'vitest/node';

/** Ends a run with every skipped test and its reason, and one line of counts. */
export class ClosingReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const count = { passed: 0, failed: 0, skipped: 0 };
    for (const module of modules) {
      // A file that cannot be loaded, or a hook that fails, leaves no tests that could fail.
      for (const place of [module, ...module.children.allSuites()]) {
        if (place.errors().length > 0) count.failed += 1;
      }
      for (const test of module.children.allTests()) {
        const state = test.result().state;
        if (state === 'passed' || state === 'failed') count[state] += 1;
        else {
          count.skipped += 1;
          console.log(`skipped: ${module.relativeModuleId} > ${test.fullName}: ${reason(test)}`);
        }
      }
    }
    console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
  }
}

function reason(test: TestCase): string {
  const result = test.result();
  return (result.state === 'skipped' ? result.note : undefined) ?? 'no reason given';
}
