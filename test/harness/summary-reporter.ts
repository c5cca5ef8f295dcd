/** Counts the tests into one line, `N passed, N failed, N skipped`, the last line of `npm test`. */
import { writeFileSync } from 'node:fs';
import type { Reporter, SerializedError, TestModule } from 'vitest/node';

export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const count = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
    for (const module of modules) {
      let failedHere = 0;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        // A test that is still pending at the end was aborted.
        if (state === 'passed' || state === 'skipped') count[state] += 1;
        else failedHere += 1;
      }
      // An unreadable file or a failed hook has no failed test of its own.
      if (failedHere === 0 && module.state() === 'failed') failedHere = 1;
      count.failed += failedHere;
    }
    if (count.passed + count.failed + count.skipped === 0) count.failed = 1;
    const line = `${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`;
    const file = process.env['ERRATA_TEST_SUMMARY'];
    // The bootstrap prints the line last.
    if (file !== undefined) writeFileSync(file, `${line}\n`);
    else process.stdout.write(`${line}\n`);
  }
}
